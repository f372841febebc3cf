// Asks a model through the gateway. The key comes from the environment.
import OpenAI from "openai";

const client = new OpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL ?? "<<base_url>>",
});
const answer = await client.chat.completions.create({
  model: process.env.TOKENDANCE_MODEL ?? "<<model>>",
  messages: [{ role: "user", content: "Say hello in five words." }],
});
console.log(answer.choices[0].message.content);
