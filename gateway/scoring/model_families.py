"""Recognises a model's family by its name: a judge prefers answers of its own family, so that is warned of. Pure."""

from __future__ import annotations

import re

# Family, and a pattern for the beginning of its models' names (after the organisation).
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
    """None: unknown. A model distilled from another counts as its base model, whose name comes last."""
    name = model.rpartition("/")[2].removeprefix("models/")
    # deepseek-r1-distill-qwen-7b is a Qwen model trained on DeepSeek's answers.
    name = re.sub(r"^.*distill(?:ed)?-", "", name, flags=re.IGNORECASE)
    name = re.sub(r"^ft:", "", name)
    return next((family for family, matcher in _MATCHERS if matcher.match(name)), None)


def shared_family(one: str, other: str) -> str | None:
    """The family of both models; None: they differ, or one is unknown."""
    known = family(one)
    return known if known is not None and known == family(other) else None
