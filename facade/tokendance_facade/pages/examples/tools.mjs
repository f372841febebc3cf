import OpenAI from "openai";

const client = new OpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL,
});
const model = process.env.TOKENDANCE_MODEL ?? "your-model";
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather of a city, now.",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  },
];
const messages = [{ role: "user", content: "What is the weather in Oslo?" }];

let answer = await client.chat.completions.create({ model, messages, tools });
const { message } = answer.choices[0];
messages.push(message);
for (const call of message.tool_calls ?? []) {
  console.log(call.function.name, call.function.arguments);
  const content = JSON.stringify({ sky: "clear", celsius: 4 });
  messages.push({ role: "tool", tool_call_id: call.id, content });
}

if (message.tool_calls) {
  answer = await client.chat.completions.create({ model, messages, tools });
}
console.log(answer.choices[0].message.content);
