import os

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["TOKENDANCE_API_KEY"],
    base_url=os.environ["TOKENDANCE_BASE_URL"],
)

stream = client.chat.completions.create(
    model=os.environ.get("TOKENDANCE_MODEL", "your-model"),
    messages=[{"role": "user", "content": "Say hello in five words."}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
