import { client, messages, print } from "./client.mjs";

const whole = await client.chat.completions.create({ model: "sim", messages });
const plain = [];
for await (const chunk of await client.chat.completions.create({ model: "sim", messages, stream: true })) {
  plain.push(chunk);
}
const counted = [];
const options = { model: "sim", messages, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create(options)) {
  counted.push(chunk);
}
const helped = client.chat.completions.stream({ model: "demo-echo", messages });
const final = await helped.finalChatCompletion();
const schema = {
  type: "object",
  properties: { title: { type: "string" }, minutes: { type: "integer" } },
  required: ["title", "minutes"],
  additionalProperties: false,
};
const formatted = await client.chat.completions.create({
  model: "sim-json",
  messages,
  response_format: { type: "json_schema", json_schema: { name: "recipe", strict: true, schema } },
});
print({ whole, requestId: whole._request_id, plain, counted, final, formatted: formatted.choices[0].message.content });
