"""Who may call which RPC: the options of the schema, read once, and the one decision made from them."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.descriptor import FileDescriptor

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.principals import Principal

ANYONE = access_pb2.CALLER_KIND_ANYONE
API_KEY = access_pb2.CALLER_KIND_API_KEY
NOBODY = Principal(kinds=frozenset({ANYONE}), name="")
"""A caller without a credential."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the schema says about one RPC. `method` is its path, such as `/package.Service/Method`."""

    method: str
    allow: frozenset[access_pb2.CallerKind.ValueType]
    public_listener: bool
    streams: bool

    @property
    def admits_api_keys(self) -> bool:
        """True where an API key may call."""
        return API_KEY in self.allow or ANYONE in self.allow


def read_rules(files: list[FileDescriptor]) -> dict[str, Rule]:
    """Return the rule of each RPC of the files, by path. An RPC without the option admits nobody."""
    rules: dict[str, Rule] = {}
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                access = method.GetOptions().Extensions[access_pb2.access]
                path = f"/{service.full_name}/{method.name}"
                rules[path] = Rule(path, frozenset(access.allow), access.public_listener, method.server_streaming)
    return rules


def check(rule: Rule, principal: Principal) -> None:
    """Let the caller pass, or say which credential belongs here.

    Raises missing_api_key or api_key_not_accepted for a credential of the wrong kind, and permission_denied for a
    role that may never call this RPC.
    """
    if rule.allow & principal.kinds or ANYONE in rule.allow:
        return
    if principal is NOBODY:
        raise GatewayError(errors_pb2.ERROR_REASON_MISSING_API_KEY, _what_to_send(rule), origin="caller")
    if API_KEY in principal.kinds:
        raise api_key_not_accepted()
    raise GatewayError(
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        "Your role may not call this; ask somebody whose role includes it.",
        metadata={"method": rule.method},
        origin="caller",
    )


def api_key_not_accepted() -> GatewayError:
    """Return the error for an API key where people are asked for."""
    return GatewayError(
        errors_pb2.ERROR_REASON_API_KEY_NOT_ACCEPTED,
        "A TokenDance API key calls models only; this call needs a TokenDance ID session.",
        origin="caller",
    )


def _what_to_send(rule: Rule) -> str:
    if API_KEY in rule.allow:
        return "No credential came with the call; send `authorization: Bearer tdk_…` with a TokenDance API key."
    return "No credential came with the call; this call needs a TokenDance ID session, and an API key will not do."
