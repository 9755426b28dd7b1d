"""The sections of gateway.yaml that only the consumer reads: `scorers`, and `evals`, how it reaches the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from gateway.config.types import Positive, Section, Share, Url


class EvalsConfig(Section):
    """Access of judges, embeddings and replays to the gateway. `gateway up` fills it in by itself."""

    base_url: Url | None = None
    """Base URL of the gateway, such as `http://127.0.0.1:8000/v1`."""
    api_key: str | None = None
    """The plain text of one of `keys`, which must have `sample: never`."""


class ScorerConfig(Section):
    """A scorer. Keys that are not listed here are options of the scorer itself (docs/scorers.md)."""

    model_config = ConfigDict(extra="allow")

    use: str | None = None
    """A scorer's name, `package.module:Class` or an `http://…` address. Default: the name of this section."""
    share: Share = 1.0
    """Share of the recorded exchanges that is scored."""
    deadline_s: Positive | None = None
    """Seconds for one exchange, including the wait for a free slot. Default: 10, or 60 if the scorer calls a model."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Exchanges scored at once, per consumer. Default: 16, or 8 if the scorer calls a model."""
    budget_usd: Annotated[float, Field(ge=0)] | None = None
    """USD per UTC day, over all consumers. Default: unlimited."""
    budget_tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens per UTC day, over all consumers. Default: unlimited."""
    isolate: bool = False
    """Run the scorer in its own process."""
    memory_mb: Annotated[int, Field(ge=64)] | None = None
    """Memory that the process may use beyond what Python and the gateway need. Default: 512."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def scores_runs(name: str, section: ScorerConfig) -> bool:
    """Whether a scorer has one value for each run: a rule of runs, or a judge with `unit: run`. name: its section's."""
    return (section.use or name).startswith("run_") or section.options.get("unit") == "run"


DECISION = "decision"
"""The scorer whose section holds several questions, each a scorer of its own."""


def with_questions_apart(sections: Any) -> Any:
    """The raw `scorers` section, with an entry `SECTION.QUESTION` for each question of a section with `use: decision`.

    The entries keep the section's other keys, and its name as `panel`, by which they share one call for each answer. A
    section that is not of this form is returned as it is, and so is anything but a mapping.
    """
    if not isinstance(sections, Mapping):
        return sections
    apart: dict[str, Any] = {}
    for name, section in sections.items():
        questions = section.get("questions") if isinstance(section, Mapping) else None
        if not isinstance(questions, Mapping) or not questions or section.get("use", name) != DECISION:
            apart[name] = section
            continue
        common = {key: value for key, value in section.items() if key != "questions"}
        for question, asked in questions.items():
            apart[f"{name}.{question}"] = {**common, "use": DECISION, "panel": name, "question": asked}
    return apart


def drawn_as(name: str, section: ScorerConfig) -> str:
    """The name that a scorer's share is drawn by: questions of one section see the same answers."""
    panel = section.options.get("panel")
    return panel if section.use == DECISION and isinstance(panel, str) else name
