// The official Anthropic SDK, without retries; prints one JSON document of all that it saw.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL.replace(/\/v1$/, ""),
  maxRetries: 0,
});
const hello = [{ role: "user", content: "Hello" }];
const tools = ["get_weather", "get_forecast"].map((name) => ({
  name,
  input_schema: { type: "object", properties: { city: { type: "string" } } },
}));

async function ask(model, messages, stream) {
  const body = { model, max_tokens: 4000, messages, tools };
  return stream ? client.messages.stream(body).finalMessage() : client.messages.create(body);
}

const seen = { turns: {} };
for (const model of ["claude/sim-tools-parallel", "sim-tools-parallel", "claude/fault:reasoning:base=sim-tools"]) {
  for (const stream of [false, true]) {
    const first = await ask(model, hello, stream);
    const results = first.content
      .filter((block) => block.type === "tool_use")
      .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: "22 degrees" }));
    const messages = [...hello, { role: "assistant", content: first.content }, { role: "user", content: results }];
    seen.turns[`${model} ${stream}`] = { first, second: await ask(model, messages, stream) };
  }
}
seen.events = [];
for await (const event of await client.messages.create({
  model: "claude/sim",
  max_tokens: 100,
  messages: hello,
  stream: true,
})) {
  seen.events.push(event.type);
}
seen.counted = await client.messages.countTokens({ model: "claude/sim", messages: hello });
seen.models = [];
for await (const model of client.models.list({ limit: 5 })) seen.models.push(model.id);
try {
  await client.messages.create({ model: "no-such-model", max_tokens: 1, messages: hello });
} catch (error) {
  seen.failure = { class: error.constructor.name, status: error.status, body: error.error, requestId: error.requestID };
}
console.log(JSON.stringify(seen));
