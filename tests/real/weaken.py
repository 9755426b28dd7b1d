"""A model's weights, changed. Run by the Python of .real/vllm.

python weaken.py FROM TO BITS     each row of each linear layer rounded to BITS bits
python weaken.py FROM TO -LAYERS  the last layers left out
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Symmetric, one scale a row: what weight-only quantisation keeps of the weights."""
    most = 2 ** (bits - 1) - 1
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / most
    return ((weight.float() / scale).round() * scale).to(weight.dtype)


def main(source: str, target: str, change: int) -> None:
    shutil.copytree(source, target)
    path = Path(target, "model.safetensors")
    weights = load_file(str(path))
    if change > 0:
        linear = [name for name in weights if name.endswith("_proj.weight")]
        weights |= {name: rounded(weights[name], change) for name in linear}
    else:
        config = json.loads(Path(target, "config.json").read_text())
        config["num_hidden_layers"] += change
        for name, value in config.items():
            if isinstance(value, list) and len(value) == config["num_hidden_layers"] - change:
                config[name] = value[:change]
        Path(target, "config.json").write_text(json.dumps(config))
        kept = config["num_hidden_layers"]
        weights = {
            name: value
            for name, value in weights.items()
            if not name.startswith("model.layers.") or int(name.split(".")[2]) < kept
        }
    save_file(weights, str(path), {"format": "pt"})


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
