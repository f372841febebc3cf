import { client, failureOf, print } from "./client.mjs";

const schema = {
  type: "object",
  properties: { title: { type: "string" }, minutes: { type: "integer" } },
  required: ["title", "minutes"],
  additionalProperties: false,
};
const tool = {
  type: "function",
  name: "look",
  strict: true,
  parameters: {
    type: "object",
    properties: { at: { type: "string" } },
    required: ["at"],
    additionalProperties: false,
  },
};

async function looped(model) {
  const said = [{ role: "user", content: 'CALL look {"at":"a"}' }];
  const turns = [];
  for (let turn = 0; turn < 2; turn += 1) {
    const answer = await client.responses.stream({ model, input: said, tools: [tool] }).finalResponse();
    turns.push(answer.output.map((item) => item.type));
    said.push(...answer.output);
    for (const item of answer.output.filter((one) => one.type === "function_call")) {
      said.push({ type: "function_call_output", call_id: item.call_id, output: "A house." });
    }
  }
  return { turns, text: said.at(-1).content[0].text };
}

const seen = {};
for (const provider of ["", "responses/", "claude/"]) {
  const whole = await client.responses.create({ model: `${provider}sim`, input: "Hello" });
  const final = await client.responses.stream({ model: `${provider}sim`, input: "Hello" }).finalResponse();
  seen[provider] = { whole: whole.output_text, final: final.output_text, loop: await looped(`${provider}sim-agent`) };
}
const formatted = await client.responses.create({
  model: "sim-json",
  input: "A recipe",
  text: { format: { type: "json_schema", name: "recipe", strict: true, schema } },
});
const stored = await failureOf(() => client.responses.retrieve("resp_1"));
const broken = await failureOf(async () => {
  for await (const _ of await client.responses.create({ model: "fault:cut", input: "Hello", stream: true })) {
    continue;
  }
});
print({ seen, formatted: formatted.output_text, stored, broken });
