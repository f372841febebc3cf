import { client, print } from "./client.mjs";

const input = ["one", "two"];
const packed = await client.embeddings.create({ model: "sim-embed", input, dimensions: 16 });
const plain = await client.embeddings.create({ model: "sim-embed", input, dimensions: 16, encoding_format: "float" });
const listed = [];
for await (const model of client.models.list()) listed.push(model.id);
const found = await client.models.retrieve("acme/sim");
const legacy = await client.completions.create({ model: "sim", prompt: "Hello", max_tokens: 50 });
const pieces = [];
const stream = await client.completions.create({ model: "sim", prompt: "Hello", max_tokens: 50, stream: true });
for await (const chunk of stream) pieces.push(chunk.choices[0].text);
print({
  packed: packed.data.map((item) => Array.from(item.embedding)),
  plain: plain.data.map((item) => item.embedding),
  listed,
  found,
  legacy: legacy.choices[0].text,
  pieces,
});
