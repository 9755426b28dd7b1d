"""SmolLM2 in the hub's format, written as a Qwen3ForCausalLM, for which vLLM 0.32 serves /v1/systemone. Run by the
Python of .real/transformers.

python convert_decider.py SMOLLM2 FOLDER

Qwen3 norms the queries and keys of each head, and Llama does not, so the answers of the model mean nothing: the format
of the endpoint is what it shows.
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

_KEPT = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads rms_norm_eps "
    "max_position_embeddings tie_word_embeddings bos_token_id eos_token_id pad_token_id rope_parameters"
)


def main(source: str, folder: str) -> None:
    llama = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    kept = {name: getattr(llama.config, name) for name in _KEPT.split()}
    head_dim = llama.config.hidden_size // llama.config.num_attention_heads
    with torch.device("meta"):
        qwen = Qwen3ForCausalLM(Qwen3Config(**kept, head_dim=head_dim))
    norms = {name: torch.ones(head_dim, dtype=torch.bfloat16) for name in qwen.state_dict() if "_norm.weight" in name}
    own = {name: norm for name, norm in norms.items() if ".q_norm." in name or ".k_norm." in name}
    qwen.load_state_dict(llama.state_dict() | own, assign=True)
    qwen.tie_weights()
    qwen.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


main(*sys.argv[1:])
