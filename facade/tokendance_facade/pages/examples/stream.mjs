import OpenAI from "openai";

const client = new OpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL,
});

const stream = await client.chat.completions.create({
  model: process.env.TOKENDANCE_MODEL ?? "your-model",
  messages: [{ role: "user", content: "Say hello in five words." }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
process.stdout.write("\n");
