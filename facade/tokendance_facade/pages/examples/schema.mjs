import OpenAI from "openai";

const client = new OpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL,
});
const schema = {
  type: "object",
  properties: { city: { type: "string" }, country: { type: "string" } },
  required: ["city", "country"],
  additionalProperties: false,
};

const answer = await client.chat.completions.create({
  model: process.env.TOKENDANCE_MODEL ?? "your-model",
  messages: [{ role: "user", content: "Name a city and its country." }],
  response_format: {
    type: "json_schema",
    json_schema: { name: "place", strict: true, schema },
  },
});
const found = JSON.parse(answer.choices[0].message.content);
console.log(found.city, found.country);
