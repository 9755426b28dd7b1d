"""Which models are kin. A judge prefers what its own family wrote, so that is said before anybody trusts it. Pure."""

from __future__ import annotations

import re

# Beginnings of a model's name, after its organisation: the family, and how it is recognised.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("OpenAI", r"gpt-|chatgpt|o[1-9]\b|o[1-9]-|davinci|codex"),
    ("Claude", r"claude"),
    ("Llama", r"(?:meta-)?llama|codellama|vicuna|alpaca|tulu|hermes"),
    ("Qwen", r"qwen|qwq|qvq"),
    ("Mistral", r"mistral|ministral|mixtral|codestral|magistral|devstral|pixtral|open-mistral|open-mixtral|zephyr"),
    ("Google", r"gemma|gemini|codegemma|learnlm|palm"),
    ("Phi", r"phi-?\d|phi\b"),
    ("DeepSeek", r"deepseek"),
    ("SmolLM", r"smollm|smolvlm"),
    ("Command", r"command|c4ai|aya"),
    ("Grok", r"grok"),
    ("Kimi", r"kimi|moonshot"),
    ("GLM", r"glm|chatglm"),
    ("Granite", r"granite"),
    ("OLMo", r"olmo"),
    ("Falcon", r"falcon"),
    ("Nova", r"nova-|titan"),
    ("Nemotron", r"nemotron"),
    ("Yi", r"yi-"),
    ("InternLM", r"internlm"),
    ("MiniMax", r"minimax|abab"),
)
_MATCHERS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _FAMILIES)


def family(model: str) -> str | None:
    """None: not known. What was distilled from one model into another counts as the other, whose name comes later."""
    name = model.rpartition("/")[2].removeprefix("models/")
    # deepseek-r1-distill-qwen-7b is a Qwen that learnt from DeepSeek: both are kin, and the body decides.
    name = re.sub(r"^.*distill(?:ed)?-", "", name, flags=re.IGNORECASE)
    name = re.sub(r"^ft:", "", name)
    return next((family for family, matcher in _MATCHERS if matcher.match(name)), None)


def shared_family(one: str, other: str) -> str | None:
    """The family that both belong to; None: they are not kin, or it is not known."""
    known = family(one)
    return known if known is not None and known == family(other) else None
