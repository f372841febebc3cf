"""From the words of `tokendance keys update` and `rotate` to what is asked of the node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.key_request import label_of, quota_source, resource, time_of
from tokendance_cli.limits import parse_limit

CLEARABLE = {"models": "allowed_models", "networks": "allowed_networks", "labels": "labels", "expiry": "expire_time"}
"""What can be cleared, and the field that it stands for."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Words:
    """What was said; what is empty, or 0, was not."""

    purpose: str = ""
    owner: str = ""
    team: str = ""
    rotated_by: str = ""
    rotation_days: int = 0
    inherit_quota: str = ""
    limits: Sequence[str] = ()
    models: Sequence[str] = ()
    networks: Sequence[str] = ()
    expires: str = ""
    labels: Sequence[str] = ()
    clear: Sequence[str] = ()


def key_update(key: pb.Key, words: Words, etag: str) -> pb.UpdateKeyRequest:
    """Return the change of a key that the words describe; raises CommandError for words that cannot be read."""
    if words.inherit_quota and words.limits:
        raise CommandError("Give --inherit-quota or --limit, not both.", exit_code=USAGE)
    organization = "/".join(key.name.split("/")[:2])
    wanted = pb.Key(name=key.name, etag=etag, purpose=words.purpose, labels=dict(map(label_of, words.labels)))
    wanted.allowed_models.extend(words.models)
    wanted.allowed_networks.extend(words.networks)
    if words.owner:
        wanted.owner = resource("members", words.owner, organization)
    if words.team:
        wanted.team = resource("teams", words.team, organization)
    if words.limits:
        wanted.quota.limits.rules.extend(map(parse_limit, words.limits))
    elif words.inherit_quota:
        wanted.quota.inherited_from = quota_source(words.inherit_quota, wanted.team or key.team, organization)
    if words.expires:
        wanted.expire_time.FromDatetime(time_of(words.expires))
    paths = [field.name for field, _ in wanted.ListFields() if field.name not in ("name", "etag")]
    if words.rotated_by:
        wanted.rotation.responsible = resource("members", words.rotated_by, organization)
        paths.append("rotation.responsible")
    if words.rotation_days:
        wanted.rotation.period.FromTimedelta(timedelta(days=words.rotation_days))
        paths.append("rotation.period")
    paths += _cleared(words.clear, paths)
    if not paths:
        raise CommandError("Nothing to change: say what, such as --purpose TEXT.", exit_code=USAGE)
    request = pb.UpdateKeyRequest(key=wanted)
    request.update_mask.paths.extend(paths)
    return request


def overlap_of(text: str) -> timedelta:
    """Return a time such as 0, 90s, 30m, 24h or 7d; raises CommandError for another form."""
    match = re.fullmatch(r"([0-9]{1,7})([smhd])|0", text)
    if match is None:
        raise CommandError(f"{text!r} is no length of time; write 0, 30m, 24h or 7d.", exit_code=USAGE)
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match[2] else timedelta()


def _cleared(names: Sequence[str], given: Sequence[str]) -> list[str]:
    cleared = []
    for name in dict.fromkeys(names):
        if name not in CLEARABLE:
            raise CommandError(f"{name!r} cannot be cleared; {', '.join(CLEARABLE)} can.", exit_code=USAGE)
        if CLEARABLE[name] in given:
            raise CommandError(f"New {name} and --clear {name} contradict each other.", exit_code=USAGE)
        cleared.append(CLEARABLE[name])
    return cleared
