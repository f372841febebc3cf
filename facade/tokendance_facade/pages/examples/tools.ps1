$body = @"
{
  "model": "$env:TOKENDANCE_MODEL",
  "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
  "tools": [{
    "type": "function",
    "function": {
      "name": "weather",
      "description": "The weather of a city, now.",
      "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"]
      }
    }
  }]
}
"@
$body | curl.exe -sS --fail-with-body `
  "$env:TOKENDANCE_BASE_URL/chat/completions" `
  -H "Authorization: Bearer $env:TOKENDANCE_API_KEY" `
  -H "Content-Type: application/json" `
  --data '@-'
