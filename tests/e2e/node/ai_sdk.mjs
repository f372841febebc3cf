// The Vercel AI SDK, whose OpenAI provider speaks Responses, and Chat Completions where it is asked to.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { print } from "./client.mjs";

const gateway = createOpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL,
});
const looks = [];
const settings = {
  prompt: 'CALL look {"at":"a"}',
  stopWhen: stepCountIs(3),
  maxRetries: 0,
  tools: {
    look: tool({
      description: "Looks at something.",
      inputSchema: jsonSchema({ type: "object", properties: { at: { type: "string" } }, required: ["at"] }),
      execute: async ({ at }) => {
        looks.push(at);
        return "A house.";
      },
    }),
  },
};

const seen = {};
for (const provider of ["", "responses/", "claude/"]) {
  const model = `${provider}sim-agent`;
  const whole = await generateText({ ...settings, model: gateway.responses(model) });
  const streamed = streamText({ ...settings, model: gateway.responses(model) });
  const chat = await generateText({ ...settings, model: gateway.chat(model) });
  seen[provider] = { whole: whole.text, streamed: await streamed.text, chat: chat.text };
}
print({ seen, looks });
