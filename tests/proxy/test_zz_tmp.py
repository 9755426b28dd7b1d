import runpy, time, sys
from pathlib import Path
import pytest
F = runpy.run_path("/work/main/tests/proxy/test_fidelity.py")
async def test_x(start, configured, upstream, capsys):
    config = configured(upstream, sampling={"rate": 0})
    config["upstreams"]["claude"] = {"kind": "anthropic", "base_url": upstream.base_url}
    config["models"]["claude"] = {"targets": [{"upstream": "claude", "model": "claude-x"}]}
    gateway = await start(config)
    with capsys.disabled():
        for name, path, body in F["PLAIN"]:
            upstream.streams([body], content_type="application/json")
            r = await F["ask"](gateway, path)
            if r.status_code!=200 or r.content!=body: print(name, r.text[:300])
        for name, path, body in F["STREAMS"]:
            upstream.streams([body])
            t=time.time()
            r = await F["ask"](gateway, path, stream=True, stream_options={"include_usage":True})
            t=time.time()-t
            if t>.02: print("slow", name, t)
            if r.content!=body: print("diff",name)
