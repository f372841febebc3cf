"""What the journal holds of a request: the entry before an upstream is called, and the finished one.

Times are microseconds since 1970, UTC; durations are microseconds. Fields may be added, with a default: entries that
an earlier version wrote must be readable.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tokendance.gateway.v1.usage_pb2 import REQUEST_OUTCOME_UNKNOWN
from tokendance_server.domain.usage.counts import NOTHING, Counts, add_up


class OpenRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A request as it came in. Holds no prompt and no secret.

    `request_id` is what the caller saw, and may have been chosen by it. Subjects are ids, without their resource
    names. `requested_model` is the caller's word, `served_model` the public id once it is known.
    """

    request_id: str
    start_us: int
    organization_id: str
    key_id: str = ""
    member_id: str = ""
    team_id: str = ""
    requested_model: str = ""
    served_model: str = ""
    surface: int = 0
    streamed: bool = False
    user: str = ""
    metadata: dict[str, str] = {}
    labels: dict[str, str] = {}
    key_labels: dict[str, str] = {}
    client_kind: str = ""
    client_version: str = ""
    credential_kind: int = 0
    host: str = ""
    route: str = ""
    address: str = ""


class StartedAttempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A call to an upstream, before it is made. `number` counts from 1.

    `input_tokens` is the estimate of the prompt, `output_tokens` the learnt size of an answer, and `cost_micros` what
    both would cost (None: no price): what is charged where nobody is left to tell.
    """

    number: int
    start_us: int
    provider: str = ""
    provider_label: str = ""
    upstream_model: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int | None = None


class FinishedAttempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A call to an upstream as it ended. `outcome` and `reason` are of RequestOutcome and ErrorReason."""

    number: int
    start_us: int
    outcome: int
    provider: str = ""
    provider_label: str = ""
    upstream_model: str = ""
    model: str = ""
    reason: int = 0
    upstream_status: int = 0
    upstream_request_id: str = ""
    connect_us: int | None = None
    first_byte_us: int | None = None
    total_us: int | None = None
    counts: Counts = NOTHING
    estimated: bool = False
    cost_micros: int | None = None


class Consulted(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One limit as the request met it; `subject` is a resource name, the rule is that of `LimitRule`."""

    subject: str
    metric: int
    window: int
    limit: int
    soft: bool = False
    model: str = ""
    spent: int = 0
    held: int = 0
    asked: int = 0
    refused: bool = False
    reset_us: int | None = None


class OpenEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is in the journal before an upstream is called. `id` is the billing id, minted by the gateway."""

    id: str
    node: str
    request: OpenRequest
    attempt: StartedAttempt
    ended: tuple[FinishedAttempt, ...] = ()


class FinishedEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request, over. `end_us` None: its end is not known. `cost_micros` None: an attempt had no price."""

    id: str
    node: str
    request: OpenRequest
    outcome: int
    end_us: int | None = None
    served_model: str = ""
    reason: int = 0
    message: str = ""
    counts: Counts = NOTHING
    estimated: bool = False
    cost_micros: int | None = None
    attempts: tuple[FinishedAttempt, ...] = ()
    delivery: int = 0
    replay_of: str = ""
    first_byte_us: int | None = None
    added_us: int | None = None
    limits: tuple[Consulted, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()


OPEN = b"O"
FINISHED = b"F"

_encoder = msgspec.msgpack.Encoder()
_open = msgspec.msgpack.Decoder(OpenEntry)
_finished = msgspec.msgpack.Decoder(FinishedEntry)


def encode(entry: OpenEntry | FinishedEntry) -> bytes:
    """Return an entry as the journal holds it."""
    return (OPEN if type(entry) is OpenEntry else FINISHED) + _encoder.encode(entry)


def decode(payload: bytes) -> OpenEntry | FinishedEntry:
    """Return the entry of a payload. Raises ValueError for anything else."""
    kind, body = payload[:1], memoryview(payload)[1:]
    if kind == FINISHED:
        return _finished.decode(body)
    if kind == OPEN:
        return _open.decode(body)
    raise ValueError("this is no entry of a usage journal")


def unknown(entry: OpenEntry) -> FinishedEntry:
    """Return how a request is recorded whose node died: charged for what its attempts used, by the written rule.

    An attempt that was under way is charged the estimate of its prompt and the learnt size of an answer, flagged as
    estimated: the provider has the prompt in any case, and nobody is left who knows how much of the answer came.
    """
    started = entry.attempt
    lost = FinishedAttempt(
        number=started.number,
        start_us=started.start_us,
        outcome=REQUEST_OUTCOME_UNKNOWN,
        provider=started.provider,
        provider_label=started.provider_label,
        upstream_model=started.upstream_model,
        model=started.model,
        counts=Counts(started.input_tokens, started.output_tokens),
        estimated=True,
        cost_micros=started.cost_micros,
    )
    attempts = (*entry.ended, lost)
    return FinishedEntry(
        id=entry.id,
        node=entry.node,
        request=entry.request,
        outcome=REQUEST_OUTCOME_UNKNOWN,
        served_model=started.model,
        counts=add_up(one.counts for one in attempts),
        estimated=True,
        cost_micros=cost_of(attempts),
        attempts=attempts,
    )


def cost_of(attempts: Sequence[FinishedAttempt]) -> int | None:
    """Return what attempts cost together, in micro-USD; None where one of them has no price."""
    total = 0
    for one in attempts:
        if one.cost_micros is None:
            return None
        total += one.cost_micros
    return total
