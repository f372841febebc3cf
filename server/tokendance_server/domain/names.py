"""Resource names: `organizations/{organization}` and what lives below it, to and from ids."""

from __future__ import annotations

import re
from typing import Literal

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

Collection = Literal["keys", "teams", "members", "keyRequests"]

ANY_ORGANIZATION = "organizations/-"
"""Stands for every organization that the caller may see, where a list allows it."""

_PREFIXES: dict[Collection, str] = {
    "keys": "key",
    "teams": "team",
    "members": "user",
    "keyRequests": "kreq",
}
_ID = r"[0-9a-hjkmnp-tv-z]{26}"
_ORGANIZATION = re.compile(rf"organizations/(org_{_ID})")
_CHILDREN = {
    collection: re.compile(rf"organizations/(org_{_ID})/{collection}/({prefix}_{_ID})")
    for collection, prefix in _PREFIXES.items()
}
_TENANT = re.compile(rf"organizations/(org_{_ID})(?:/|\Z)")
_ORGANIZATION_ID = re.compile(rf"org_{_ID}")
_TEAM_ID = re.compile(rf"team_{_ID}")
_POLICY = re.compile(rf"organizations/(org_{_ID})/policy")
_RESERVATION = re.compile(rf"organizations/(org_{_ID})/reservations/(rsv_{_ID})")
_WEBHOOK = re.compile(rf"organizations/(org_{_ID})/webhooks/(whk_{_ID})")
_KEY_ID = re.compile(rf"key_{_ID}")


def organization_name(organization_id: str) -> str:
    """Return `organizations/{organization}`."""
    return f"organizations/{organization_id}"


def child_name(organization_id: str, collection: Collection, child_id: str) -> str:
    """Return the name of what lives in an organization, such as `organizations/org_…/keys/key_…`."""
    return f"organizations/{organization_id}/{collection}/{child_id}"


def id_of(name: str) -> str:
    """Return the last segment of a resource name, whose form is not looked at; empty for an empty one."""
    return name.rpartition("/")[2]


def tenant_of(name: str) -> str:
    """Return the id of the organization that a resource name lies in, or an empty text where it lies in none."""
    match = _TENANT.match(name)
    return match[1] if match else ""


def organization_of(name: str, param: str) -> str:
    """Return the id in `organizations/{organization}`. Raises invalid_request with `param` for another form."""
    match = _ORGANIZATION.fullmatch(name)
    if match is None:
        raise _malformed(param, "organizations/{organization}")
    return match[1]


def child_of(name: str, collection: Collection, param: str) -> tuple[str, str]:
    """Return the ids of the organization and of its child. Raises invalid_request with `param` for another form."""
    match = _CHILDREN[collection].fullmatch(name)
    if match is None:
        raise _malformed(param, f"organizations/{{organization}}/{collection}/{{{_PREFIXES[collection]}}}")
    return match[1], match[2]


def key_of(name: str, param: str) -> tuple[str, str]:
    """Return the ids of organization and key; a key's id alone stands for its name, and the first is then empty.

    Raises invalid_request with `param` for another form.
    """
    if _KEY_ID.fullmatch(name):
        return "", name
    return child_of(name, "keys", param)


def organization_or_id(name: str, param: str) -> str:
    """Return the id of an organization, which its name or the id alone gives. Raises invalid_request."""
    return name if _ORGANIZATION_ID.fullmatch(name) else organization_of(name, param)


def team_of(name: str, param: str) -> tuple[str, str]:
    """Return the ids of organization and team; a team's id alone stands for its name, and the first is then empty.

    Raises invalid_request with `param` for another form.
    """
    return ("", name) if _TEAM_ID.fullmatch(name) else child_of(name, "teams", param)


def child_id(name: str, collection: Collection, param: str) -> str:
    """Return the id of what lives in an organization; the id alone stands for its name.

    Raises invalid_request with `param` for another form.
    """
    alone = re.fullmatch(f"{_PREFIXES[collection]}_{_ID}", name)
    return name if alone else child_of(name, collection, param)[1]


def subject_of(name: str, param: str) -> tuple[str, str]:
    """Return the collection of a subject of quotas, and its resource name, or its id where only that was given.

    Raises invalid_request with `param` for another form.
    """
    if _ORGANIZATION.fullmatch(name) or _ORGANIZATION_ID.fullmatch(name):
        return "organizations", name
    for collection in ("keys", "members", "teams"):
        child = _CHILDREN[collection]
        if child.fullmatch(name) or re.fullmatch(f"{_PREFIXES[collection]}_{_ID}", name):
            return collection, name
    raise _malformed(param, "organizations/{organization}, or below it /teams/…, /members/… or /keys/…")


def policy_name(organization_id: str) -> str:
    """Return `organizations/{organization}/policy`."""
    return f"organizations/{organization_id}/policy"


def policy_of(name: str, param: str) -> str:
    """Return the id of the organization whose policy it is. Raises invalid_request with `param` for another form."""
    match = _POLICY.fullmatch(name)
    if match is None:
        raise _malformed(param, "organizations/{organization}/policy")
    return match[1]


def reservation_of(name: str, param: str) -> tuple[str, str]:
    """Return the ids of organization and reservation. Raises invalid_request with `param` for another form."""
    match = _RESERVATION.fullmatch(name)
    if match is None:
        raise _malformed(param, "organizations/{organization}/reservations/{reservation}")
    return match[1], match[2]


def webhook_of(name: str, param: str) -> tuple[str, str]:
    """Return the ids of organization and webhook. Raises invalid_request with `param` for another form."""
    match = _WEBHOOK.fullmatch(name)
    if match is None:
        raise _malformed(param, "organizations/{organization}/webhooks/{webhook}")
    return match[1], match[2]


def _malformed(param: str, form: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        f"{param} must be a resource name of the form {form}.",
        param=param,
        metadata={"form": form},
        origin="caller",
    )
