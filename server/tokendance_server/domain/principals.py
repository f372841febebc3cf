"""Who a caller is, once its credential has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tokendance.gateway.v1.access_pb2 import CallerKind


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that proved who it is.

    `name` is a resource name, or `local-operator`. `organization` is `organizations/{o}`, empty for callers of the
    whole platform. The fields of an API key are empty for everybody else.
    """

    kinds: frozenset[CallerKind.ValueType]
    name: str
    organization: str = ""
    key_id: str = ""
    owner: str = ""
    team: str = ""
    allowed_models: frozenset[str] = frozenset()
    allowed_networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    excluded_route_tags: frozenset[str] = frozenset()
    """The tags of routes that calls never take: those of the key, and those of its organization's policy."""
    secret_time: datetime | None = None
    """When the secret was minted that the caller came with: tells an API key's secrets apart."""
    sign_in_time: datetime | None = None
    """When somebody with an access token proved who they are last; None for everybody else."""
    expire_time: datetime | None = None
    """When the access token ends that the caller came with; None for everybody else."""


GATEWAY = Principal(kinds=frozenset(), name="gateway")
"""The gateway itself, where nobody did something by hand."""
