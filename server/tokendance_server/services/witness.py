"""Tells the audit trail what calls show besides changes: who signed in, and who was refused a change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from tokendance.credentials import is_stray
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.asides import Asides
from tokendance_server.domain.identity.roles import PEOPLE
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import Rule
from tokendance_server.services.call import Call
from tokendance_server.services.origins import origin_of

_REFUSALS = frozenset({errors_pb2.ERROR_REASON_PERMISSION_DENIED, errors_pb2.ERROR_REASON_NOT_FOUND})
_READS = frozenset({"Get", "List", "Verify", "Watch", "Check", "Explain", "Count", "Discover", "Suggest"})
_WORDS = re.compile(r"[A-Z][a-z]*")
# Where the name of an RPC says it otherwise than its event does.
_ACTIONS = {
    "ExportAuditEvents": "audit.export",
    "RequestKey": "key_request.create",
    "RevealKey": "key_request.reveal",
}
# Ids are shorter than any secret; a longer part is nobody's name.
_NAME = re.compile(r"[a-z][A-Za-z]*(/[A-Za-z0-9._-]{1,38})*")


class Witness:
    """Passes on to the trail what a listener's chain sees; without one it passes nothing on."""

    def __init__(self, asides: Asides | None = None, rules: Mapping[str, Rule] | None = None) -> None:
        self._asides = asides
        self._actions = {path: action_of(path) for path, rule in (rules or {}).items() if is_change(rule)}

    def signed_in(self, call: Call, token: str, caller: Principal) -> None:
        """Take note that a call came with a token that is good."""
        if self._asides is not None:
            self._asides.signed_in(caller, token, origin_of(call))

    def refused(self, call: Call, request: Any, error: GatewayError) -> None:
        """Take note of a call that failed, if a known caller was refused a change."""
        if error.reason not in _REFUSALS or self._asides is None or call.principal is None:
            return
        action = self._actions.get(call.method)
        if action is not None:
            self._asides.refused(
                call.principal, origin_of(call), action=action, resource=resource_of(request), code=error.code
            )


NOBODY_LOOKS = Witness()
"""Of a chain whose calls are not told."""


def is_change(rule: Rule) -> bool:
    """Tell whether an RPC is one with which people change something, or take the trail away."""
    name = rule.method.rpartition("/")[2]
    return bool(rule.allow & PEOPLE) and _WORDS.findall(name)[0] not in _READS


def action_of(method: str) -> str:
    """Return what a change by an RPC is told as, such as `key.rotate`."""
    name = method.rpartition("/")[2]
    verb, *noun = [word.lower() for word in _WORDS.findall(name)]
    return _ACTIONS.get(name) or f"{'_'.join(noun)}.{verb}"


def resource_of(request: Any) -> str:
    """Return the resource that a request names, as far as it has the form of a name of ours; else an empty text.

    Callers write what they like there, secrets among it.
    """
    if not isinstance(request, Message):
        return ""
    for field in ("name", "parent"):
        if field in request.DESCRIPTOR.fields_by_name:
            return _plain(getattr(request, field))
    # An update names it within the resource, which comes first.
    first = request.DESCRIPTOR.fields[0] if request.DESCRIPTOR.fields else None
    if first is not None and first.message_type is not None and "name" in first.message_type.fields_by_name:
        return _plain(getattr(request, first.name).name)
    return ""


def _plain(name: object) -> str:
    if not isinstance(name, str) or len(name) > 200 or not _NAME.fullmatch(name):
        return ""
    return "" if any(map(is_stray, name.split("/"))) else name
