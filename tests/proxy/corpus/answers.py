"""Answers as providers send them, quirks of spacing, order, escapes and numbers kept: what must pass byte for byte.

Each is (name, path below /v1, body). Loaded by its path: tests do not import one another.
"""

from __future__ import annotations

# ruff: noqa: E501 - what was recorded on one line stays on one

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = "/chat/completions", "/completions", "/embeddings", "/responses"
MESSAGES = "/messages"


def chat(message: str, finish: str = '"stop"', more: str = "", choice: str = "") -> bytes:
    """OpenAI's own layout: pretty-printed, with a line end after it."""
    return (
        '{\n  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",\n  "object": "chat.completion",\n'
        '  "created": 1741569952,\n  "model": "gpt-5.2-2026-02-01",\n  "choices": [\n    {\n      "index": 0,\n'
        f'      "message": {{\n        "role": "assistant",\n        {message}\n      }},{choice}\n'
        f'      "finish_reason": {finish}\n    }}\n  ],\n  "usage": {{\n    "prompt_tokens": 19,\n'
        '    "completion_tokens": 10,\n    "total_tokens": 29,\n    "prompt_tokens_details": {\n'
        '      "cached_tokens": 0,\n      "audio_tokens": 0\n    },\n    "completion_tokens_details": {\n'
        '      "reasoning_tokens": 0\n    }\n  },\n'
        f'  "service_tier": "default"{more}\n}}\n'
    ).encode()


def small(
    choices: str, more: str = "", usage: str = '{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}'
) -> bytes:
    """An answer on one line, as vLLM and most others write it."""
    head = '{"id":"chatcmpl-7f","object":"chat.completion","created":1741569952,"model":"m",'
    return f'{head}"choices":[{choices}],"usage":{usage}{more}}}'.encode()


SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEA" * 40
LOGPROBS = (
    '"logprobs":{"content":[{"token":"H\\u00e9","logprob":-3.1281633e-07,"bytes":[72,195,169],"top_logprobs":'
    '[{"token":"H\\u00e9","logprob":-3.1281633e-07,"bytes":[72,195,169]},{"token":"Hi","logprob":-15.0,"bytes":null}]},'
    '{"token":"\\\\n","logprob":-9999.0,"bytes":[10],"top_logprobs":[]}],"refusal":null}'
)

PLAIN: list[tuple[str, str, bytes]] = [
    ("openai text", CHAT, chat('"content": "Hello! How can I help?",\n        "refusal": null,\n        "annotations": []')),
    ("parallel tool calls", CHAT, chat(
        '"content": null,\n        "tool_calls": [\n          {"id": "call_a", "type": "function", "function": {"name": '
        '"weather", "arguments": "{\\n  \\"city\\": \\"Zürich\\"\\n}"}},\n          {"id": "call_b", "type": "function", '
        '"function": {"name": "time", "arguments": "{}"}}\n        ]', '"tool_calls"')),
    ("custom tool call", CHAT, chat(
        '"content": null, "tool_calls": [{"id": "call_c", "type": "custom", "custom": {"name": "sql", "input": '
        '"SELECT \\"a\\" FROM t;"}}]', '"tool_calls"')),
    ("logprobs", CHAT, small('{"index":0,"message":{"role":"assistant","content":"Hé\\n"},' + LOGPROBS + ',"finish_reason":"stop"}')),
    ("a refusal", CHAT, chat('"content": null,\n        "refusal": "I\'m sorry, I cannot assist with that request."')),
    ("three choices", CHAT, small(",".join(
        f'{{"index":{i},"message":{{"role":"assistant","content":"{t}"}},"logprobs":null,"finish_reason":"{f}"}}'
        for i, t, f in ((1, "b", "length"), (0, "a", "stop"), (2, "c", "content_filter"))))),
    ("sound", CHAT, chat(
        '"content": null, "audio": {"id": "audio_67", "expires_at": 1741573552, "transcript": "Yes.", "data": "'
        + SOUND + '"}')),
    ("reasoning of vLLM", CHAT, small(
        '{"index":0,"message":{"role":"assistant","reasoning":"9.11 < 9.9","content":"9.9","tool_calls":[]},'
        '"logprobs":null,"finish_reason":"stop","stop_reason":151645,"token_ids":[24,13,24]}',
        ',"prompt_logprobs":[null,{"9707":{"logprob":-1.25,"rank":1,"decoded_token":"Hello"}}],'
        '"prompt_token_ids":null,"kv_transfer_params":{"do_remote_decode":true},"system_fingerprint":null')),
    ("reasoning of DeepSeek", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"4","reasoning_content":"2+2 …"},"finish_reason":"stop"}',
        "", '{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":7}')),
    ("Azure's filter results", CHAT, small(
        '{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"finish_reason":"stop","index":0,'
        '"logprobs":null,"message":{"content":"Hi","role":"assistant"}}',
        ',"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"jailbreak":{"detected":false}}}]')),
    ("cut by length", CHAT, chat('"content": "and then the"', '"length"')),
    ("citations", CHAT, chat(
        '"content": "See [1].", "annotations": [{"type": "url_citation", "url_citation": {"start_index": 4, '
        '"end_index": 7, "title": "A \\"title\\"", "url": "https:\\/\\/example.com\\/?a=1&b=2"}}]')),
    ("a function call of old", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\\"x\\": 1}"}},'
        '"finish_reason":"function_call"}')),
    ("unicode, raw and escaped", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"é \\u00e9 🙂 \\ud83d\\ude42 \u2028 \\u2028 \u0000'.replace("\x00", "\\u0000")
        + ' עברית 日本語 a\u0301"},"finish_reason":"stop"}')),
    ("half a surrogate pair", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"cut \\ud83d"},"finish_reason":"length"}')),
    ("numbers", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"n"},"finish_reason":"stop"}',
        ',"x":[12345678901234567890123,0.70,1e-05,-0.0,1E+2,1.0]')),
    ("the same name twice", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"a","content":"b"},"finish_reason":"stop"}', ',"x":1,"x":2')),
    ("Mistral's content parts", CHAT, small(
        '{"index":0,"message":{"role":"assistant","tool_calls":null,"content":[{"type":"thinking","thinking":'
        '[{"type":"text","text":"Hm."}]},{"type":"text","text":"Yes"}],"prefix":false},"finish_reason":"stop"}')),
    ("Groq's extras", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":"stop"}',
        ',"system_fingerprint":"fp_3f","x_groq":{"id":"req_01","usage":{"queue_time":0.0123}}',
        '{"queue_time":0.05,"prompt_tokens":7,"prompt_time":0.001,"completion_tokens":2,"completion_time":0.0034,"total_tokens":9}')),
    ("OpenRouter's extras", CHAT, small(
        '{"logprobs":null,"finish_reason":"stop","native_finish_reason":"STOP","index":0,"message":{"role":"assistant",'
        '"content":"Hi","refusal":null,"reasoning":"…","reasoning_details":[{"type":"reasoning.text","text":"…","format":null}]}}',
        ',"provider":"Google AI Studio"', '{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"cost":1.4e-05,"is_byok":false}')),
    ("llama.cpp's timings", CHAT, small(
        '{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"Hi"}}',
        ',"timings":{"cache_n":0,"prompt_n":7,"prompt_ms":41.2,"predicted_per_second":33.30446}')),
    ("Ollama", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}',
        ',"system_fingerprint":"fp_ollama"').replace(b'"m"', b'"qwen3:0.6b"') + b"\n"),
    ("empty content", CHAT, small('{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}')),
    ("an error field that is null", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"Hi"},"error":null,"finish_reason":"stop"}', ',"error":null')),
    ("the word error in the text", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"\\"error\\": {\\"message\\": 1} data: [DONE]"},"finish_reason":"stop"}')),
    ("windows line ends", CHAT, chat('"content": "Hi"').replace(b"\n", b"\r\n")),
    ("a long text", CHAT, small(
        '{"index":0,"message":{"role":"assistant","content":"' + "Lorem é ipsum \\\\ dolor. " * 4000 + '"},"finish_reason":"length"}')),
    ("a completion with logprobs", COMPLETIONS,
     b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":" there","index":0,"logprobs":'
     b'{"tokens":[" there"],"token_logprobs":[-0.5],"top_logprobs":[{" there":-0.5}],"text_offset":[5]},"finish_reason":'
     b'"length","stop_reason":null,"prompt_logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'),
    ("embeddings", EMBEDDINGS,
     b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[-0.006929283495992422,-5.336422e-05,0.0]}],'
     b'"model":"text-embedding-3-small","usage":{"prompt_tokens":2,"total_tokens":2}}'),
    ("embeddings in base64", EMBEDDINGS,
     b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":"' + b"AACAPwAAAEA+/+8=" * 400
     + b'"}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}'),
    ("a response with reasoning and a search", RESPONSES,
     b'{\n  "id": "resp_67cc", "object": "response", "status": "completed", "error": null, "incomplete_details": null,\n'
     b'  "model": "gpt-5.2", "output": [{"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": '
     b'"**Thinking**"}], "encrypted_content": "gAAAA=="}, {"type": "web_search_call", "id": "ws_1", "status": "completed",'
     b' "action": {"type": "search", "query": "x"}}, {"type": "message", "id": "msg_1", "role": "assistant", "content": '
     b'[{"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}], "phase": "final_answer"}],\n'
     b'  "usage": {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 87,'
     b' "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 123}, "store": true, "top_p": 0.98\n}'),
    ("a moderation", "/moderations",
     b'{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":true,"categories":{"violence/graphic":true},'
     b'"category_scores":{"violence/graphic":0.9999992},"category_applied_input_types":{"violence/graphic":["text"]}}]}'),
    ("a rerank", "/rerank",
     b'{"id":"rerank-1","results":[{"index":1,"document":{"text":"b"},"relevance_score":0.10}],"usage":{"total_tokens":5}}'),
    ("a picture", "/images/generations",
     b'{"created":1713833628,"background":"opaque","data":[{"b64_json":"' + b"iVBORw0KGgo" * 3000
     + b'"}],"usage":{"input_tokens":10,"output_tokens":1056,"total_tokens":1066}}'),
    ("a message of Anthropic", MESSAGES,
     b'{"model":"claude-sonnet-5","id":"msg_01","type":"message","role":"assistant","content":[{"type":"thinking",'
     b'"thinking":"Hm.","signature":"EqQBCgIYAhIM"},{"type":"text","text":"Hi \\u2014 \xe2\x80\x94"},{"type":"tool_use","id":'
     b'"toolu_01","name":"f","input":{"b":1,"a":[1.50]}}],"stop_reason":"tool_use","stop_sequence":null,"usage":'
     b'{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":25,'
     b'"service_tier":"standard"}}'),
]  # fmt: skip


def chunk(choices: str, more: str = ',"usage":null') -> str:
    return f'{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1694268190,"model":"m","choices":[{choices}]{more}}}'


def delta(content: str, finish: str = "null", index: int = 0, more: str = "") -> str:
    return chunk(f'{{"index":{index},"delta":{{{content}}}{more},"finish_reason":{finish}}}')


ROLE = delta('"role":"assistant","content":"","refusal":null', more=',"logprobs":null')
USAGE = chunk(
    "",
    ',"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0}}',
)
END = [delta("", '"stop"'), USAGE, "[DONE]"]


def sse(*data: str, end: str = "\n\n", field: str = "data: ") -> bytes:
    return "".join(f"{field}{d}{end}" for d in data).encode()


def words(text: str) -> list[str]:
    return [delta(f'"content":"{w}"') for w in text.split("|")]


def named(*events: tuple[str, str]) -> bytes:
    return "".join(f'event: {n}\ndata: {{"type":"{n}"{d}}}\n\n' for n, d in events).encode()


TOOLS = [
    delta('"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]'),
    delta('"tool_calls":[{"index":0,"function":{"arguments":"{\\"ci"}}]'),
    delta('"tool_calls":[{"index":0,"function":{"arguments":"ty\\":\\"Z\\u00fc"}}]'),
    delta('"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"time","arguments":"{}"}}]'),
    delta('"tool_calls":[{"index":0,"function":{"arguments":"rich\\"}"}}]'),
    delta("", '"tool_calls"'), USAGE, "[DONE]",
]  # fmt: skip
RESPONSE = '"response":{"id":"resp_1","object":"response","status":"%s","model":"m","output":[],"usage":%s}'
RESPONSE_USAGE = '{"input_tokens":1,"output_tokens":2,"total_tokens":3,"output_tokens_details":{"reasoning_tokens":0}}'
ITEM = ',"item_id":"msg_1","output_index":0,"content_index":0'

STREAMS: list[tuple[str, str, bytes]] = [
    ("text", CHAT, sse(ROLE, *words("Hello|!| How"), *END)),
    ("unicode of every length", CHAT, sse(ROLE, *words("é|日本|🙂🏽‍🚀|\\ud83d|\\ude42|a\u0301|\u2028"), *END)),
    ("parallel tool calls", CHAT, sse(*TOOLS)),
    ("logprobs", CHAT, sse(ROLE, delta('"content":"Hé"', more="," + LOGPROBS), *END)),
    ("a refusal", CHAT, sse(ROLE, delta('"refusal":"I\'m sorry"'), delta('"refusal":", no."'), *END)),
    ("two choices in turns", CHAT, sse(
        delta('"role":"assistant","content":""', index=0), delta('"role":"assistant","content":""', index=1),
        delta('"content":"a"', index=1), delta('"content":"b"', index=0), delta("", '"stop"', 1),
        delta('"content":"c"', index=0), delta("", '"length"', 0), USAGE, "[DONE]")),
    ("sound", CHAT, sse(
        ROLE, delta('"audio":{"id":"audio_1","transcript":"Yes"}'), delta(f'"audio":{{"data":"{SOUND}"}}'),
        delta('"audio":{"expires_at":1741573552}'), *END)),
    ("reasoning of vLLM", CHAT, sse(
        delta('"role":"assistant","content":""'), delta('"reasoning":"9.11 < 9.9"'), delta('"content":"9.9"', more=',"token_ids":[24]'),
        delta("", '"stop"', more=',"stop_reason":151645'), USAGE, "[DONE]")),
    ("reasoning of DeepSeek", CHAT, sse(
        delta('"role":"assistant","content":null,"reasoning_content":""'), delta('"content":null,"reasoning_content":"Hm"'),
        delta('"content":"4","reasoning_content":null'), *END)),
    ("Azure's first chunk has no choice", CHAT, sse(
        '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}',
        ROLE, *words("Hi"), *END)),
    ("OpenRouter's comments", CHAT, b": OPENROUTER PROCESSING\n\n" * 3 + sse(ROLE, *words("Hi|!"))
     + b": OPENROUTER PROCESSING\n\n" + sse(*END)),
    ("comments inside an event", CHAT, b": hi\n" + sse(ROLE) + b":\nid: 7\nretry: 10\n" + sse(*words("Hi"), *END)),
    ("CRLF", CHAT, sse(ROLE, *words("Hello|!"), *END, end="\r\n\r\n")),
    ("CR", CHAT, sse(ROLE, *words("Hello|!"), *END[:-1], end="\r\r") + b"data: [DONE]\r\r"),
    ("no space after the colon", CHAT, sse(ROLE, *words("Hello|!"), *END, field="data:")),
    ("an event name on each", CHAT, sse(ROLE, *words("Hello|!"), *END, field="event: message\ndata: ")),
    ("usage on every chunk", CHAT, sse(
        chunk('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}', ',"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}'),
        chunk('{"index":0,"delta":{"content":"Hi"},"finish_reason":null}', ',"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}'),
        chunk('{"index":0,"delta":{},"finish_reason":"stop"}', ',"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}'),
        USAGE, "[DONE]")),
    ("usage in the last chunk, as Mistral", CHAT, sse(
        ROLE, *words("Hi"), chunk('{"index":0,"delta":{"content":""},"finish_reason":"stop"}',
                                  ',"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2},"p":"abcd"'), "[DONE]")),
    ("usage of Groq", CHAT, sse(
        ROLE, *words("Hi"), chunk('{"index":0,"delta":{},"finish_reason":"stop"}', ',"x_groq":{"id":"req_1","usage":{"prompt_tokens":7,"completion_tokens":2}}'),
        USAGE, "[DONE]")),
    ("padding against snooping", CHAT, sse(
        ROLE, chunk('{"index":0,"delta":{"content":"Hi"},"finish_reason":null}', ',"usage":null,"obfuscation":"x8fGhT2"'), *END)),
    ("llama.cpp's timings", CHAT, sse(
        ROLE, *words("Hi"), delta("", '"stop"'), chunk("", ',"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9},"timings":{"predicted_ms":30.026}'), "[DONE]")),
    ("Gemini ends without usage", CHAT, sse(*words("Hi| there"), delta('"content":"!"', '"stop"'), "[DONE]")),
    ("the word error in the text", CHAT, sse(ROLE, *words('\\"error\\": {|data: [DONE]|\\"usage\\":{|\\"finish_reason\\": 1'), *END)),
    ("spaces in the JSON", CHAT, sse(ROLE, *[w.replace('":', '": ').replace(",", ", ") for w in words("Hi|!")], *[
        e.replace('":', '": ') for e in END])),
    ("one event that is no JSON", CHAT, sse(ROLE, *words("Hi"), '{"choices": [{"index": 0, "delta": {"content": "hal', *words("!"), *END)),
    ("an event of an unknown shape", CHAT, sse(ROLE, *words("Hi"), '{"choices": 7}', "[]", '{"choices":[null]}', *words("!"), *END)),
    ("data on two lines", CHAT, sse(ROLE) + b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"Hi"},"finish_reason":null}]}\n\n' + sse(*END)),
    ("a large delta", CHAT, sse(ROLE, delta('"content":"' + "é\\n" * 30000 + '"'), *END)),
    ("completions", COMPLETIONS, sse(
        '{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":" there","index":0,"logprobs":null,"finish_reason":null}]}',
        '{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}]}',
        '{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}',
        "[DONE]")),
    ("a response", RESPONSES, named(
        ("response.created", "," + RESPONSE % ("in_progress", "null")),
        ("response.output_item.added", ',"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","content":[]}'),
        ("response.output_text.delta", ITEM + ',"delta":"Hé","logprobs":[],"obfuscation":"q1"'),
        ("response.output_text.delta", ITEM + ',"delta":" — 🙂"'),
        ("response.output_text.done", ITEM + ',"text":"Hé — 🙂"'),
        ("response.completed", "," + RESPONSE % ("completed", RESPONSE_USAGE)))),
    ("a response that calls a function and is cut short", RESPONSES, named(
        ("response.created", "," + RESPONSE % ("in_progress", "null")),
        ("response.reasoning_summary_text.delta", ',"item_id":"rs_1","delta":"**Hm**"'),
        ("response.function_call_arguments.delta", ',"item_id":"fc_1","output_index":1,"delta":"{\\"a"'),
        ("response.function_call_arguments.done", ',"item_id":"fc_1","output_index":1,"arguments":"{\\"a\\":1}"'),
        ("response.incomplete", "," + RESPONSE % ("incomplete", RESPONSE_USAGE)))),
    ("a message of Anthropic", MESSAGES, named(
        ("message_start", ',"message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5","content":[],'
         '"stop_reason":null,"usage":{"input_tokens":25,"cache_read_input_tokens":0,"output_tokens":1}}'),
        ("content_block_start", ',"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}'),
        ("ping", ""),
        ("content_block_delta", ',"index":0,"delta":{"type":"thinking_delta","thinking":"Hm é"}'),
        ("content_block_delta", ',"index":0,"delta":{"type":"signature_delta","signature":"EqQB"}'),
        ("content_block_stop", ',"index":0'),
        ("content_block_start", ',"index":1,"content_block":{"type":"text","text":""}'),
        ("content_block_delta", ',"index":1,"delta":{"type":"text_delta","text":"🙂"}'),
        ("content_block_stop", ',"index":1'),
        ("message_delta", ',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}'),
        ("message_stop", ""))),
    ("a tool of Anthropic", MESSAGES, named(
        ("message_start", ',"message":{"id":"msg_1","type":"message","role":"assistant","content":[],"usage":{"input_tokens":9,"output_tokens":1}}'),
        ("content_block_start", ',"index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}'),
        ("content_block_delta", ',"index":0,"delta":{"type":"input_json_delta","partial_json":""}'),
        ("content_block_delta", ',"index":0,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\":"}'),
        ("content_block_delta", ',"index":0,"delta":{"type":"input_json_delta","partial_json":"1.50}"}'),
        ("content_block_stop", ',"index":0'),
        ("message_delta", ',"delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":15}'),
        ("message_stop", ""))),
]  # fmt: skip
