"""The rules. No transport, no storage: messages, plain types and GatewayErrors only."""
