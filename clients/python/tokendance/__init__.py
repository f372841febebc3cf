"""TokenDance Gateway for Python: the client, its errors, and the generated stubs below `tokendance.gateway.v1`."""

from tokendance.errors import GatewayError

__all__ = ["GatewayError"]
