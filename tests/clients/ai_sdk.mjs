// The npm packages `ai` and `@ai-sdk/openai` against a model behind the façade: what they make of its answers.
// Run by tests/proxy/test_ai_sdk.py next to the packages: node ai_sdk.mjs BASE_URL. Prints one JSON object.

import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, jsonSchema, streamObject } from "ai";

const [baseURL] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "test-key" });
const schema = jsonSchema({
  type: "object",
  properties: {
    team: { type: "string", enum: ["billing", "shipping", "other"], description: "Which team?" },
    refund: { type: "boolean", description: "The customer asks for money back." },
  },
  required: ["team", "refund"],
  additionalProperties: false,
});
const prompt = "I was charged twice.";
const unstored = { openai: { store: false } };
const said = {};
const shown = ({ object, usage, response }) => ({
  object,
  tokens: usage.inputTokens,
  reading: response.headers["x-gateway-decision"] ?? null,
  upstream: response.headers["x-gateway-upstream"],
});

said.chat = shown(await generateObject({ model: openai.chat("chat"), schema, prompt, system: "Sort tickets." }));
said.responses = shown(await generateObject({ model: openai("chat"), schema, prompt, providerOptions: unstored }));
said.choice = shown(
  await generateObject({ model: openai.chat("chat"), output: "enum", enum: ["billing", "other"], prompt }),
);
for (const [name, model] of Object.entries({ chat: openai.chat("chat"), responses: openai("chat") })) {
  const stream = streamObject({ model, schema, prompt, providerOptions: unstored });
  for await (const _ of stream.partialObjectStream);
  said[`${name}_stream`] = { object: await stream.object, tokens: (await stream.usage).inputTokens };
}
const free = jsonSchema({
  type: "object",
  properties: { why: { type: "string" } },
  required: ["why"],
  additionalProperties: false,
});
said.free = shown(await generateObject({ model: openai.chat("chat"), schema: free, prompt }));

process.stdout.write(JSON.stringify(said));
