import { client, print, tools } from "./client.mjs";

async function ask(model, conversation, stream) {
  const body = { model, messages: conversation, tools };
  if (!stream) return (await client.chat.completions.create(body)).choices[0];
  const runner = client.chat.completions.stream(body);
  return (await runner.finalChatCompletion()).choices[0];
}

const turns = {};
for (const model of ["sim-tools", "sim-tools-parallel", "demo-echo"]) {
  for (const stream of [false, true]) {
    const conversation = [{ role: "user", content: "Please use get_weather" }];
    const first = await ask(model, conversation, stream);
    conversation.push(first.message);
    for (const call of first.message.tool_calls) {
      conversation.push({ role: "tool", tool_call_id: call.id, content: "22 degrees" });
    }
    const second = await ask(model, conversation, stream);
    turns[`${model} ${stream}`] = { first, second };
  }
}
print(turns);
