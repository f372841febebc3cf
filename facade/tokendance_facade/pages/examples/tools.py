import json
import os

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["TOKENDANCE_API_KEY"],
    base_url=os.environ["TOKENDANCE_BASE_URL"],
)
model = os.environ.get("TOKENDANCE_MODEL", "your-model")
weather = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
messages = [{"role": "user", "content": "What is the weather in Oslo?"}]

answer = client.chat.completions.create(model=model, messages=messages, tools=[weather])
message = answer.choices[0].message
messages.append(message.model_dump(exclude_none=True))
for call in message.tool_calls or []:
    print(call.function.name, call.function.arguments)
    result = json.dumps({"sky": "clear", "celsius": 4})
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

if message.tool_calls:
    answer = client.chat.completions.create(model=model, messages=messages, tools=[weather])
print(answer.choices[0].message.content)
