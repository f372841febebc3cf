$body = @"
{
  "model": "$env:TOKENDANCE_MODEL",
  "messages": [{"role": "user", "content": "Say hello in five words."}],
  "stream": true,
  "stream_options": {"include_usage": true}
}
"@
$body | curl.exe -sS -N --fail-with-body `
  "$env:TOKENDANCE_BASE_URL/chat/completions" `
  -H "Authorization: Bearer $env:TOKENDANCE_API_KEY" `
  -H "Content-Type: application/json" `
  --data '@-'
