// The npm package `openai` against a gateway: what it makes of an answer, a stream, a tool call and an error.
// Run by tests/proxy/test_clients.py: node openai.mjs BASE_URL PACKAGE_ENTRY. Prints one JSON object.

const [baseURL, entry] = process.argv.slice(2);
const { default: OpenAI } = await import(entry);

const client = new OpenAI({ baseURL, apiKey: "test-key", maxRetries: 2 });
const messages = [{ role: "user", content: "hi" }];
const said = {};

const { data: chat, response, request_id } = await client.chat.completions
  .create({ model: "chat", messages })
  .withResponse();
said.chat = { content: chat.choices[0].message.content, model: chat.model, usage: chat.usage.total_tokens };
said.id = request_id;
said.upstream = response.headers.get("x-gateway-upstream");

said.stream = { content: "", usage: null, finish: null };
const stream = await client.chat.completions.create({
  model: "chat",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  said.stream.content += chunk.choices[0]?.delta?.content ?? "";
  said.stream.finish ??= chunk.choices[0]?.finish_reason;
  said.stream.usage ??= chunk.usage?.total_tokens;
}

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
said.tool = { plain: null, streamed: null };
const called = await client.chat.completions.create({ model: "tools", messages, tools });
said.tool.plain = called.choices[0].message.tool_calls[0].function;
const gathered = client.chat.completions.stream({ model: "tools", messages, tools });
said.tool.streamed = (await gathered.finalChatCompletion()).choices[0].message.tool_calls[0].function;

said.models = [];
for await (const model of client.models.list()) said.models.push(model.id);

said.errors = {};
const failing = {
  unknown: () => client.chat.completions.create({ model: "nope", messages }),
  key: () => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 2 }).models.list(),
  down: () => client.chat.completions.create({ model: "down", messages }),
  cut: async () => {
    for await (const _ of await client.chat.completions.create({ model: "cut", messages, stream: true }));
  },
};
for (const [name, ask] of Object.entries(failing)) {
  try {
    await ask();
    said.errors[name] = null;
  } catch (error) {
    said.errors[name] = { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
}

process.stdout.write(JSON.stringify(said));
