curl -sS --fail-with-body \
  "$TOKENDANCE_BASE_URL/chat/completions" \
  -H "Authorization: Bearer $TOKENDANCE_API_KEY" \
  -H "Content-Type: application/json" \
  --data @- <<JSON
{
  "model": "$TOKENDANCE_MODEL",
  "messages": [{"role": "user", "content": "Name a city and its country."}],
  "response_format": {
    "type": "json_schema",
    "json_schema": {
      "name": "place",
      "strict": true,
      "schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
        "required": ["city", "country"],
        "additionalProperties": false
      }
    }
  }
}
JSON
