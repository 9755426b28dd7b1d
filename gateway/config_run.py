"""The `run:` of an upstream in gateway.yaml: a model server that `gateway up` starts itself. managed.py starts it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config_values import Positive, Section

Word = Annotated[str, Field(min_length=1)]


class Run(Section):
    """`gateway up` starts this upstream itself, on a free port of this machine; `gateway serve` does not.

    model: for llamacpp smollm2 or the path of a .gguf file; for vllm a name of the hub or a folder. name: what requests
    call it; None: smollm2, the file's or folder's own name, the name of the hub. command: how the engine's program is
    called, where it is not the one installed beside the gateway: [/opt/vllm/bin/vllm], [llama-server]. args: what it
    is told besides. environ: variables that it gets besides ours, from which vendors' keys are left out. ready_s: how
    long its start may take; None: 120 for llamacpp, 900 for vllm, which may have to fetch and compile.
    """

    engine: Literal["llamacpp", "vllm"]
    model: Word = "smollm2"
    name: Annotated[str, Field(pattern=r"^[\x21-\x7e]+$", max_length=300)] | None = None
    command: Annotated[tuple[Word, ...], Field(min_length=1)] | None = None
    args: tuple[str, ...] = ()
    environ: dict[Word, str] = Field({})
    ready_s: Positive | None = None

    @model_validator(mode="after")
    def _told_to_somebody(self) -> Self:
        if self.engine == "vllm" and "model" not in self.model_fields_set:
            raise ValueError("model: missing; vllm runs a model of the hub or of a folder, not the packaged smollm2")
        if self.engine == "llamacpp" and self.args and self.command is None:
            raise ValueError("args are for a program of yours; name it: command: [llama-server]")
        return self
