import json
import os

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["TOKENDANCE_API_KEY"],
    base_url=os.environ["TOKENDANCE_BASE_URL"],
)
place = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
    "additionalProperties": False,
}

answer = client.chat.completions.create(
    model=os.environ.get("TOKENDANCE_MODEL", "your-model"),
    messages=[{"role": "user", "content": "Name a city and its country."}],
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "place", "strict": True, "schema": place},
    },
)
found = json.loads(answer.choices[0].message.content)
print(found["city"], found["country"])
