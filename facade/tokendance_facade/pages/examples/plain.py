import os

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["TOKENDANCE_API_KEY"],
    base_url=os.environ["TOKENDANCE_BASE_URL"],
)

answer = client.chat.completions.create(
    model=os.environ.get("TOKENDANCE_MODEL", "your-model"),
    messages=[{"role": "user", "content": "Say hello in five words."}],
)
print(answer.choices[0].message.content)
