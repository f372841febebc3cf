// The SDK as the README sets it up, but without retries; every script here prints one JSON document.
import OpenAI from "openai";

export const client = new OpenAI({
  apiKey: process.env.TOKENDANCE_API_KEY,
  baseURL: process.env.TOKENDANCE_BASE_URL,
  maxRetries: 0,
});

export const messages = [{ role: "user", content: "Hello" }];

export const tools = ["get_weather", "get_forecast"].map((name) => ({
  type: "function",
  function: {
    name,
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer" } },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
}));

export function print(document) {
  console.log(JSON.stringify(document));
}

// What a failed call says of itself, the class of the SDK first.
export async function failureOf(call) {
  try {
    await call();
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status ?? null,
      code: error.code ?? null,
      type: error.type ?? null,
      param: error.param ?? null,
      requestId: error.requestID ?? null,
      bodyRequestId: error.error?.request_id ?? null,
      shouldRetry: error.headers?.get("x-should-retry") ?? null,
      retryAfter: error.headers?.get("retry-after") ?? null,
    };
  }
  return null;
}
