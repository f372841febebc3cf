# TokenDanceCode with the gateway: an experiment. Source this file, then name the OpenAI provider yourself.
export TOKENDANCE_API_KEY="${TOKENDANCE_API_KEY:?set it from your secret store}"
export TOKENDANCE_BASE_URL="<<base_url>>"
export TOKENDANCE_MODEL="<<model>>"
export OPENAI_API_KEY="$TOKENDANCE_API_KEY"
export OPENAI_BASE_URL="$TOKENDANCE_BASE_URL"
