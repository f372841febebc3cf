$body = @"
{
  "model": "$env:TOKENDANCE_MODEL",
  "messages": [{"role": "user", "content": "Say hello in five words."}]
}
"@
$body | curl.exe -sS --fail-with-body `
  "$env:TOKENDANCE_BASE_URL/chat/completions" `
  -H "Authorization: Bearer $env:TOKENDANCE_API_KEY" `
  -H "Content-Type: application/json" `
  --data '@-'
