# Claude Code with the gateway: source this file, then run claude.
# The key comes from the environment and is not written here.
export ANTHROPIC_BASE_URL="<<root_url>>"
export ANTHROPIC_AUTH_TOKEN="${TOKENDANCE_API_KEY:?set it from your secret store}"
unset ANTHROPIC_API_KEY
export ANTHROPIC_MODEL="<<model>>"
# Whatever Claude Code calls by an alias goes to the same model; name others where you have them.
export ANTHROPIC_DEFAULT_OPUS_MODEL="<<model>>"
export ANTHROPIC_DEFAULT_SONNET_MODEL="<<model>>"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="<<model>>"
# Only the gateway is called, and what stands before a prompt stays the same, so that it can be cached.
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
export CLAUDE_CODE_ATTRIBUTION_HEADER=0
