"""Evaluates a model by other tools, in their environment, so that they write their own files.

    python score_tools.py inspect|lm-eval BASE_URL TEMPERATURE FOLDER

The key is in $GW_API_KEY. Both ask for the capitals of eight countries; inspect asks each twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
    "Egypt": "Cairo", "Peru": "Lima",
}  # fmt: skip
QUESTION = "What is the capital of {}? Answer with its name."
TASK = """
task: capitals
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 16, do_sample: true, temperature: {temperature}}}
filter_list:
  - name: name
    filter:
      - {{function: regex, regex_pattern: "({names})", fallback: none}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, higher_is_better: true}}
"""


def by_inspect(base_url: str, temperature: float, folder: Path) -> None:
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    model = get_model(
        "openai-api/gw/smollm2",
        base_url=base_url,
        config=GenerateConfig(temperature=temperature, max_tokens=16, max_connections=1),
    )
    samples = [
        Sample(id=country, input=QUESTION.format(country), target=capital, metadata={"letters": len(country)})
        for country, capital in CAPITALS.items()
    ]
    task = Task(dataset=samples, solver=generate(), scorer=includes(), epochs=2, name="capitals")
    [log] = evaluate(task, model=model, log_dir=str(folder), display="none")
    assert log.status == "success", log.error


def by_lm_eval(base_url: str, temperature: float, folder: Path) -> None:
    rows = folder / "capitals.jsonl"
    lines = [{"question": QUESTION.format(country), "answer": capital} for country, capital in CAPITALS.items()]
    rows.write_text("\n".join(map(json.dumps, lines)))
    names = "|".join(CAPITALS.values())
    (folder / "capitals.yaml").write_text(TASK.format(rows=rows, temperature=temperature, names=names))
    address = f"model=smollm2,base_url={base_url}/chat/completions,num_concurrent=1,tokenized_requests=False"
    command = [
        str(Path(sys.executable).with_name("lm_eval")), "--model", "local-chat-completions", "--model_args", address,
        "--tasks", "capitals", "--include_path", str(folder), "--apply_chat_template", "--log_samples",
        "--output_path", str(folder / "out"),
    ]  # fmt: skip
    environ = {**os.environ, "OPENAI_API_KEY": os.environ["GW_API_KEY"], "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environ, cwd=folder)


if __name__ == "__main__":
    tool, address, how_hot, place = sys.argv[1:]
    evaluators = {"inspect": by_inspect, "lm-eval": by_lm_eval}
    evaluators[tool](address, float(how_hot), Path(place).resolve())
