"""Streams in the shapes that real servers send, and what a client must get of each: all but what is named here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.core.exchange import Usage


@dataclass(frozen=True, slots=True)
class Recorded:
    """dropped: pieces that the client must not get. supplied: what is added at the end. text: of choice 0, if the
    stream contains nothing else. error: the message of an error event."""

    name: str
    stream: bytes
    api: str = "chat"
    fields: dict[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    dropped: tuple[bytes, ...] = ()
    supplied: bytes = b""
    text: str | None = None
    error: str | None = None

    @property
    def client(self) -> bytes:
        out = self.stream
        for piece in self.dropped:
            assert out.count(piece) == 1, (self.name, piece)
            out = out.replace(piece, b"")
        return out + self.supplied


HEAD = '"id":"chatcmpl-7","object":"chat.completion.chunk","created":1764000000,"model":"gpt-x"'
DONE = b"data: [DONE]\n\n"
ASKED = {"stream_options": {"include_usage": True}}
TOKENS = '"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}'
NINE = Usage(9, 2)


def chunk(delta: str, finish: str = "null", more: str = "", index: int = 0) -> bytes:
    choice = f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'
    return f'data: {{{HEAD},"service_tier":"default","choices":[{choice}]{more}}}\n\n'.encode()


def text(*words: str) -> bytes:
    return b"".join(chunk(f'{{"content":"{word}"}}') for word in words)


def usage_chunk(more: str = "") -> bytes:
    return f'data: {{{HEAD},"choices":[],{TOKENS}{more}}}\n\n'.encode()


def completion(word: str, finish: str = "null", index: int = 0) -> bytes:
    choice = f'{{"text":"{word}","index":{index},"logprobs":null,"finish_reason":{finish}}}'
    return (
        f'data: {{"id":"cmpl-1","object":"text_completion","created":1,"choices":[{choice}],"model":"m"}}\n\n'.encode()
    )


def event(kind: str, more: str) -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}",{more}}}\n\n'.encode()


ROLE = chunk('{"role":"assistant","content":"","refusal":null}')
NULL_ROLE = chunk('{"role":"assistant","content":null}')
STOP = chunk("{}", '"stop"')
LENGTH = chunk("{}", '"length"')
HELLO = text("Hel", "lo ", "wörld 🦜")
SAID = "Hello wörld 🦜"

CALL = (
    chunk(
        '{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function",'
        '"function":{"name":"weather","arguments":""}}]}'
    )
    + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\": "}}]}')
    + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"\\"Köln\\"}"}}]}')
)
LOGPROBS = (
    f'data: {{{HEAD},"choices":[{{"index":0,"delta":{{"content":"Hi"}},"logprobs":{{"content":[{{"token":"Hi",'
    '"logprob":-0.31725305,"bytes":[72,105],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}\n\n'
).encode()
VLLM = (
    b'data: {"id":"chatcmpl-v","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"Hi"},"logprobs":null,"finish_reason":null,"token_ids":[9707]}],"prompt_token_ids":[1,2,3]}\n\n'
)
VLLM_STOP = (
    b'data: {"id":"chatcmpl-v","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"","reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}\n\n'
)
TIMINGS = ',"timings":{"prompt_n":9,"prompt_ms":31.5,"predicted_per_second":118.2}'
TRANSFORMERS_STOP = (
    b'data: {"id":"req_0","choices":[{"delta":{"content":null},"finish_reason":"stop","index":0}],"created":1,'
    b'"model":"HuggingFaceTB/SmolLM2@main","object":"chat.completion.chunk","system_fingerprint":"",'
    b'"usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11}}\n\n'
)
CONTINUOUS = (
    chunk('{"content":"a"}', more=',"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}')
    + chunk('{"content":"b"}', more="," + TOKENS)
    + chunk("{}", '"stop"', more="," + TOKENS)
)
CACHED = (
    f'data: {{{HEAD},"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,'
    '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}\n\n'
).encode()
FILTERS = (
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,'
    b'"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}\n\n'
)
GROQ = chunk('{"content":"ab"}', more=',"x_groq":{"id":"req_1"}')
IMAGE = chunk('{"images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBOR"}}]}')
OLD_CALL = chunk('{"role":"assistant","function_call":{"name":"f","arguments":"{}"}}')
ERROR = b'data: {"error":{"message":"CUDA out of memory","type":"server_error","param":null,"code":500}}\n\n'

RESPONSE = '"response":{"id":"resp_1","object":"response","status":"in_progress","error":null,"output":[]}'
RESPONSES_HEAD = event("response.created", f'"sequence_number":0,{RESPONSE}') + event(
    "response.in_progress", f'"sequence_number":1,{RESPONSE}'
)
RESPONSES_TEXT = event(
    "response.output_text.delta",
    '"sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hé"',
) + event("response.output_text.delta", '"sequence_number":5,"output_index":0,"content_index":0,"delta":"llo"')
RESPONSES_CALL = event("response.function_call_arguments.delta", '"output_index":0,"delta":"{\\"a\\":1}"')
COUNTED = Usage(9, 2, 4)
RESPONSES_USAGE = (
    '"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":2,"total_tokens":11}'
)
RESPONSES_ERROR = event("error", '"code":"server_error","message":"it broke","param":null,"sequence_number":6')


def response_end(status: str, more: str = '"error":null') -> bytes:
    inside = f'"response":{{"id":"resp_1","object":"response","status":"{status}",{more},{RESPONSES_USAGE}}}'
    return event(f"response.{status}", f'"sequence_number":9,{inside}')


RESPONSES_FAILED = RESPONSES_HEAD + response_end("failed", '"error":{"code":"server_error","message":"no"}')
RESPONSES_WHOLE = RESPONSES_HEAD + RESPONSES_TEXT + response_end("completed")


def crlf(stream: bytes) -> bytes:
    return stream.replace(b"\n", b"\r\n")


def cr(stream: bytes) -> bytes:
    return stream.replace(b"\n", b"\r")


WHOLE = ROLE + HELLO + STOP + DONE
COUNTED_WHOLE = ROLE + HELLO + STOP + usage_chunk() + DONE

RECORDED = (
    Recorded("plain", WHOLE, text=SAID),
    Recorded("usage asked by us", ROLE + HELLO + STOP + usage_chunk() + DONE, usage=NINE, dropped=(usage_chunk(),)),
    Recorded("usage asked by the client", ROLE + HELLO + STOP + usage_chunk() + DONE, fields=ASKED, usage=NINE),
    Recorded(
        "usage null on every chunk",
        chunk('{"role":"assistant","content":""}', more=',"usage":null')
        + chunk('{"content":"Hi"}', more=',"usage":null')
        + chunk("{}", '"stop"', more=',"usage":null')
        + usage_chunk()
        + DONE,
        usage=NINE,
        dropped=(usage_chunk(),),
        text="Hi",
    ),
    Recorded("usage with cached 0", ROLE + HELLO + STOP + CACHED + DONE, fields=ASKED, usage=Usage(9, 2, 0, 1)),
    Recorded("usage on every chunk", ROLE + CONTINUOUS + DONE, usage=NINE, text="ab"),
    Recorded("no DONE", ROLE + HELLO + STOP, supplied=DONE, text=SAID),
    Recorded(
        "no DONE but usage", ROLE + HELLO + STOP + usage_chunk(), usage=NINE, dropped=(usage_chunk(),), supplied=DONE
    ),
    Recorded("DONE without its blank line", ROLE + HELLO + STOP + b"data: [DONE]", supplied=b"\n\n"),
    Recorded("DONE with one line end", ROLE + HELLO + STOP + b"data: [DONE]\n", supplied=b"\n"),
    Recorded("finish without its blank line", ROLE + HELLO + STOP[:-2], supplied=b"\n\n" + DONE),
    Recorded(
        "half a chunk after the finish",
        ROLE + HELLO + STOP + STOP[:40],
        dropped=(STOP + STOP[:40],),
        supplied=STOP + DONE,
    ),
    Recorded("no space after the colon", WHOLE.replace(b"data: ", b"data:"), text=SAID),
    Recorded("CRLF", crlf(WHOLE), text=SAID),
    Recorded("CRLF, usage asked by us", crlf(COUNTED_WHOLE), usage=NINE, dropped=(crlf(usage_chunk()),)),
    Recorded("CR", cr(WHOLE), text=SAID),
    Recorded("CR, usage asked by us", cr(COUNTED_WHOLE), usage=NINE, dropped=(cr(usage_chunk()),)),
    Recorded("CR without DONE", cr(ROLE + HELLO + STOP), supplied=DONE),
    Recorded("CRLF, last blank line missing", crlf(WHOLE)[:-2], supplied=b"\r\n"),
    Recorded("mixed line ends", crlf(ROLE) + HELLO + cr(STOP) + crlf(DONE), text=SAID),
    Recorded(
        "comments",
        b": OPENROUTER PROCESSING\n\n" + ROLE + b": keep-alive\n\n" + HELLO + STOP + b":\n\n" + DONE,
        text=SAID,
    ),
    Recorded("more blank lines than needed", b"\n\n" + ROLE + b"\n" + HELLO + b"\n\n\n" + STOP + DONE, text=SAID),
    Recorded("event, id and retry fields", b"retry: 3000\nid: 1\nevent: message\n" + WHOLE, text=SAID),
    Recorded(
        "data in two lines",
        ROLE + b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"x"}}]}\n\n' + STOP + DONE,
        text="x",
    ),
    Recorded("a byte order mark", b"\xef\xbb\xbf" + WHOLE, text=SAID),
    Recorded(
        "white space inside",
        WHOLE.replace(b'"finish_reason":', b'"finish_reason" :\t').replace(b"],", b"] , "),
        text=SAID,
    ),
    Recorded("length", ROLE + HELLO + LENGTH + DONE, text=SAID),
    Recorded("finish with the last word", ROLE + chunk('{"content":"Hi"}', '"stop"') + DONE, text="Hi"),
    Recorded("no content", ROLE + STOP + DONE, text=""),
    Recorded("tool call", CALL + chunk("{}", '"tool_calls"') + DONE),
    Recorded("text, then a tool call", ROLE + HELLO + CALL + chunk("{}", '"tool_calls"') + DONE),
    Recorded("function call of old", OLD_CALL + chunk("{}", '"function_call"') + DONE),
    Recorded("logprobs", ROLE + LOGPROBS + STOP + DONE),
    Recorded("refusal", ROLE + chunk('{"refusal":"I cannot"}') + STOP + DONE),
    Recorded("reasoning", ROLE + chunk('{"reasoning":"Hm. "}') + HELLO + STOP + DONE),
    Recorded("reasoning_content", ROLE + chunk('{"content":null,"reasoning_content":"Hm. "}') + HELLO + STOP + DONE),
    Recorded(
        "audio", chunk('{"role":"assistant","audio":{"id":"a1","data":"UklGRg==","transcript":"Hi"}}') + STOP + DONE
    ),
    Recorded("images", ROLE + IMAGE + STOP + DONE),
    Recorded("content filter", ROLE + HELLO + chunk("{}", '"content_filter"') + DONE, text=SAID),
    Recorded(
        "azure filters first",
        FILTERS + ROLE + HELLO + STOP + usage_chunk() + DONE,
        usage=NINE,
        dropped=(usage_chunk(),),
        text=SAID,
    ),
    Recorded("groq", ROLE + GROQ + STOP + DONE, text="ab"),
    Recorded("vllm token ids", NULL_ROLE + VLLM + VLLM_STOP + DONE, text="Hi"),
    Recorded(
        "llama.cpp timings",
        NULL_ROLE + HELLO + STOP + usage_chunk(TIMINGS) + DONE,
        usage=NINE,
        dropped=(usage_chunk(TIMINGS),),
        text=SAID,
    ),
    Recorded("transformers serve", ROLE + HELLO + TRANSFORMERS_STOP, usage=NINE, supplied=DONE, text=SAID),
    Recorded(
        "two choices",
        ROLE + text("a") + chunk('{"content":"b"}', index=1) + STOP + chunk("{}", '"stop"', index=1) + DONE,
        fields={"n": 2},
    ),
    Recorded(
        "two choices without DONE",
        ROLE + text("a") + STOP + chunk('{"content":"b"}', index=1) + chunk("{}", '"length"', index=1),
        fields={"n": 2},
        supplied=DONE,
    ),
    Recorded(
        "says [DONE] and error",
        ROLE + text("[DONE] is not an error", "usage: {}") + STOP + DONE,
        text="[DONE] is not an errorusage: {}",
    ),
    Recorded(
        "escaped keys in the text",
        ROLE + text('{\\"finish_reason\\":\\"stop\\",\\"usage\\":{}}') + STOP + DONE,
        text='{"finish_reason":"stop","usage":{}}',
    ),
    Recorded("escaped unicode", ROLE + text("\\ud83e\\udd9c", "\\u00e9", "\\u0000") + STOP + DONE, text="🦜é\0"),
    Recorded("halves of a surrogate pair", ROLE + text("\\ud83e") + text("\\udd9c") + STOP + DONE),
    Recorded("a malformed event", ROLE + text("a") + b'data: {"choices":[{"delta":{"con\n\n' + text("b") + STOP + DONE),
    Recorded(
        "an unknown shape",
        ROLE + text("a") + b'data: {"choices":{"error":1}}\n\ndata: [1]\n\ndata: 7\n\n' + text("b") + STOP + DONE,
    ),
    Recorded("bytes after DONE", WHOLE + b": late\n\n", dropped=(b": late\n\n",), text=SAID),
    Recorded("an error first", ERROR, error="CUDA out of memory"),
    Recorded("an error in the middle", ROLE + HELLO + ERROR + DONE, dropped=(DONE,), error="CUDA out of memory"),
    Recorded("an error as text", ROLE + HELLO + b'data: {"error":"boom"}\n\n', error="boom"),
    Recorded("an error by its event", ROLE + HELLO + b"event: error\ndata: boom\n\n", error="boom"),
    Recorded("error null", ROLE + chunk('{"content":"Hi"}', more=',"error":null') + STOP + DONE, text="Hi"),
    Recorded("completions", completion("Hel") + completion("lo") + completion("", '"stop"') + DONE, api="completions"),
    Recorded(
        "completions of two prompts",
        completion("a") + completion("b", index=1) + completion("", '"stop"') + completion("", '"stop"', 1),
        api="completions",
        fields={"prompt": ["x", "y"]},
        supplied=DONE,
    ),
    Recorded(
        "completions of token ids",
        completion("a") + completion("", '"length"'),
        api="completions",
        fields={"prompt": [1, 2]},
        supplied=DONE,
    ),
    Recorded("responses", RESPONSES_HEAD + RESPONSES_TEXT + response_end("completed"), api="responses", usage=COUNTED),
    Recorded(
        "responses incomplete",
        RESPONSES_HEAD + RESPONSES_TEXT + response_end("incomplete"),
        api="responses",
        usage=COUNTED,
    ),
    Recorded(
        "responses with a call",
        RESPONSES_HEAD + RESPONSES_CALL + response_end("completed"),
        api="responses",
        usage=COUNTED,
    ),
    Recorded("responses failed", RESPONSES_FAILED, api="responses", usage=COUNTED, error="no"),
    Recorded(
        "responses with an error", RESPONSES_HEAD + RESPONSES_TEXT + RESPONSES_ERROR, api="responses", error="it broke"
    ),
    Recorded("responses CRLF", crlf(RESPONSES_WHOLE), api="responses", usage=COUNTED),
    Recorded("responses with DONE", RESPONSES_WHOLE + DONE, api="responses", usage=COUNTED, dropped=(DONE,)),
    Recorded(
        "sound events",
        b'data: {"type":"speech.audio.delta","audio":"UklG"}\n\ndata: {"type":"speech.audio.done"}\n\n',
        api="speech",
    ),
)
