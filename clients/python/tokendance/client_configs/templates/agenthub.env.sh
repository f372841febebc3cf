# AgentHub's runtime adapter with the gateway: the environment of the process that calls models.
# That process runs on a server that you control. Desktop and Web get none of this.
export TOKENDANCE_API_KEY="${TOKENDANCE_API_KEY:?set it from your secret store}"
export TOKENDANCE_MODEL="<<model>>"
# An adapter that speaks gRPC; TOKENDANCE_GRPC_CA names the PEM file of an authority of your own.
export TOKENDANCE_GRPC_TARGET="<<grpc_target>>"
# An adapter that speaks HTTP.
export TOKENDANCE_BASE_URL="<<base_url>>"
