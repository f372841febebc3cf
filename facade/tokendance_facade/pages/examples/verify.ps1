curl.exe -sS --fail-with-body `
  "$env:TOKENDANCE_BASE_URL/models" `
  -H "Authorization: Bearer $env:TOKENDANCE_API_KEY"
