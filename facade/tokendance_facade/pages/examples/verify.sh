curl -sS --fail-with-body \
  "$TOKENDANCE_BASE_URL/models" \
  -H "Authorization: Bearer $TOKENDANCE_API_KEY"
