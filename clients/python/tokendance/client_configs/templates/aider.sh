# aider with the gateway: source this file, then run aider --model openai/<<model>>
# The key comes from the environment and is not written here.
export OPENAI_API_BASE="<<base_url>>"
export OPENAI_API_KEY="${TOKENDANCE_API_KEY:?set it from your secret store}"
