curl -sS -N --fail-with-body \
  "$TOKENDANCE_BASE_URL/chat/completions" \
  -H "Authorization: Bearer $TOKENDANCE_API_KEY" \
  -H "Content-Type: application/json" \
  --data @- <<JSON
{
  "model": "$TOKENDANCE_MODEL",
  "messages": [{"role": "user", "content": "Say hello in five words."}],
  "stream": true,
  "stream_options": {"include_usage": true}
}
JSON
