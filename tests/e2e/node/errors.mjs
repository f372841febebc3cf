// Arguments: a key that may call one model only.
import OpenAI from "openai";
import { client, failureOf, messages, print } from "./client.mjs";

const as = (apiKey) => new OpenAI({ apiKey, baseURL: client.baseURL, maxRetries: 0 });
const ask = (fields, caller = client) => () =>
  caller.chat.completions.create({ model: "sim", messages, ...fields });

async function drained(model) {
  const pieces = [];
  const failure = await failureOf(async () => {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) pieces.push(chunk.choices[0].delta.content ?? "");
  });
  return { ...failure, text: pieces.join("") };
}

// With retries on, a call that no retry can cure is sent once.
let sent = 0;
const counting = new OpenAI({
  apiKey: "tdk_wrong",
  baseURL: client.baseURL,
  maxRetries: 5,
  fetch: (...call) => {
    sent += 1;
    return fetch(...call);
  },
});

print({
  401: await failureOf(ask({}, as("tdk_wrong"))),
  403: await failureOf(ask({ model: "sim-echo" }, as(process.argv[2]))),
  404: await failureOf(ask({ model: "no-such-model" })),
  400: await failureOf(ask({ temperature: 3 })),
  413: await failureOf(ask({ user: "x".repeat(1024 * 1024) })),
  429: await failureOf(ask({ model: "fault:status:code=429" })),
  502: await failureOf(ask({ model: "fault:status:code=500" })),
  503: await failureOf(ask({ model: "refused" })),
  504: await failureOf(ask({ model: "fault:stall", stream: true })),
  cut: await drained("fault:cut"),
  told: await drained("fault:error-event"),
  retried: await failureOf(ask({}, counting)),
  sent,
});
