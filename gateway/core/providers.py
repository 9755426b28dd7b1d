"""The table of providers: one row for each kind of upstream. A provider with OpenAI's API is a row here, not a class.

A row gives the provider's base URL, the environment variable that usually holds its key, and where its API departs
from OpenAI's. An upstream in gateway.yaml can override each of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DialectName = Literal["openai", "azure", "anthropic"]
Load = Literal["orca", "scrape", "none"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One kind of upstream."""

    kind: str  # as in gateway.yaml
    title: str  # for people
    dialect: DialectName = "openai"
    base_url: str | None = None  # with its version path; None: the config must give one
    key_env: str | None = None  # the environment variable that usually holds its key
    ports: tuple[int, ...] = ()  # where a local server of this kind usually listens
    health: str | None = None  # a path that costs nothing, relative to the origin; None: no active health checks
    load: Load = "none"  # how it reports its load
    stream_usage: Literal["ask", "never"] = "ask"  # "never": it does not understand `stream_options.include_usage`
    prompt_logprobs: bool = False  # it gives log-probabilities of a prompt's tokens, as vLLM does
    prefill: bool = False  # it continues a last assistant message if the request asks for that
    cloud: bool = False  # it needs a cloud's credentials (`auth`) where it has no key
    sigv4_service: str = "bedrock"  # that AWS's signatures name
    otel_name: str = ""  # its `gen_ai.provider.name` in OpenTelemetry's conventions
    quirk: str = ""  # for the documentation

    @property
    def local(self) -> bool:
        """Whether it runs on the user's own machines: its key is optional, and its tokens have no price."""
        return self.key_env is None and not self.cloud


_ROWS = (
    Provider("openai", "OpenAI", base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", otel_name="openai"),
    Provider(
        "azure",
        "Azure OpenAI",
        dialect="azure",
        key_env="AZURE_OPENAI_API_KEY",
        cloud=True,
        otel_name="azure.ai.openai",
        quirk="base_url is the resource's (https://NAME.openai.azure.com); a target's model is the deployment",
    ),
    Provider(
        "anthropic",
        "Anthropic",
        dialect="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_env="ANTHROPIC_API_KEY",
        otel_name="anthropic",
    ),
    Provider(
        "vllm",
        "vLLM",
        base_url="http://127.0.0.1:8001/v1",
        ports=(8001, 8000),
        health="/health",
        load="orca",
        prompt_logprobs=True,
        prefill=True,
        otel_name="vllm",
        quirk="load comes in the header of plain answers only; `priority` needs --scheduling-policy priority; "
        "tools need --enable-auto-tool-choice and a --tool-call-parser",
    ),
    Provider(
        "ollama",
        "Ollama",
        base_url="http://127.0.0.1:11434/v1",
        ports=(11434,),
        health="/api/version",
        otel_name="ollama",
        quirk="loads a model at its first request: give first_token_s room",
    ),
    Provider(
        "llamacpp",
        "llama.cpp server",
        base_url="http://127.0.0.1:8080/v1",
        ports=(8080,),
        health="/health",
        otel_name="llama_cpp",
        quirk="answers any model name with the model it has; context overflow is `exceed_context_size_error`",
    ),
    Provider(
        "llamafile",
        "llamafile",
        base_url="http://127.0.0.1:8080/v1",
        ports=(8080,),
        health="/health",
        otel_name="llamafile",
        quirk="embeds the llama.cpp server and behaves like it",
    ),
    Provider(
        "llama_cpp_python",
        "llama-cpp-python",
        base_url="http://127.0.0.1:8000/v1",
        otel_name="llama_cpp",
        stream_usage="never",
        quirk="never sends usage on a stream; has no /health",
    ),
    Provider("lmstudio", "LM Studio", base_url="http://127.0.0.1:1234/v1", ports=(1234,), otel_name="lmstudio"),
    Provider(
        "sglang", "SGLang", base_url="http://127.0.0.1:30000/v1", ports=(30000,), health="/health", otel_name="sglang"
    ),
    Provider(
        "ray_serve",
        "Ray Serve LLM",
        base_url="http://127.0.0.1:8000/v1",
        prompt_logprobs=True,
        otel_name="ray_serve",
    ),
    Provider(
        "tgi",
        "Text Generation Inference",
        base_url="http://127.0.0.1:3000/v1",
        health="/health",
        otel_name="huggingface",
    ),
    Provider(
        "transformers",
        "transformers serve",
        base_url="http://127.0.0.1:8000/v1",
        health="/health",
        otel_name="huggingface",
        quirk="usage comes in the finish chunk, asked for or not; no [DONE]; /v1/models fails",
    ),
    Provider(
        "huggingface",
        "Hugging Face router",
        base_url="https://router.huggingface.co/v1",
        key_env="HF_TOKEN",
        otel_name="huggingface",
    ),
    Provider(
        "mistral",
        "Mistral",
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        stream_usage="never",
        otel_name="mistral_ai",
        quirk="refuses stream_options; sends usage on the last chunk unasked",
    ),
    Provider("groq", "Groq", base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY", otel_name="groq"),
    Provider(
        "together", "Together", base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY", otel_name="together"
    ),
    Provider(
        "openrouter",
        "OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        otel_name="openrouter",
        quirk="sends `: OPENROUTER PROCESSING` comments while it waits",
    ),
    Provider(
        "deepseek", "DeepSeek", base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", otel_name="deepseek"
    ),
    Provider(
        "fireworks",
        "Fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
        otel_name="fireworks",
    ),
    Provider("xai", "xAI", base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", otel_name="x_ai"),
    Provider(
        "gemini",
        "Gemini (its OpenAI-compatible endpoint)",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env="GEMINI_API_KEY",
        otel_name="gcp.gemini",
    ),
    Provider(
        "bedrock",
        "Amazon Bedrock (its OpenAI-compatible endpoint)",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        cloud=True,
        otel_name="aws.bedrock",
        quirk="base_url is https://bedrock-runtime.REGION.amazonaws.com/openai/v1; chat completions of open models",
    ),
    Provider(
        "bedrock_mantle",
        "Amazon Bedrock Mantle",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        cloud=True,
        sigv4_service="bedrock-mantle",
        otel_name="aws.bedrock",
        quirk="base_url is https://bedrock-mantle.REGION.api.aws/openai/v1; also has responses",
    ),
    Provider(
        "vertex",
        "Vertex AI (its OpenAI-compatible endpoint)",
        cloud=True,
        otel_name="gcp.vertex_ai",
        quirk="base_url is https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION/endpoints/"
        "openapi; a target's model is google/NAME",
    ),
    Provider(
        "fake",
        "gateway fake",
        base_url="http://127.0.0.1:9000/v1",
        health="/health",
        prompt_logprobs=True,
        prefill=False,
        otel_name="fake",
    ),
)

PROVIDERS: dict[str, Provider] = {row.kind: row for row in _ROWS}
