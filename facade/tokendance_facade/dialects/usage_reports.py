"""What was used as JSON: the gateway's own form, for `GET /v1/usage` and `GET /v1/requests/{id}`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import parse_qs

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import completion_pb2, errors_pb2, quota_pb2, usage_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.usage_words import columns, grouping, moment
from tokendance_facade.dialects.documents import Document

_PARAMETERS = frozenset({"by", "since", "until", "model", "user", "page_size", "page_token"})
_MOST_PARAMETERS = 100
_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def decode(query: str, now: datetime) -> tuple[pb.GetUsageRequest, list[str]]:
    """Return the question that a query string asks, and the words that its rows are grouped by.

    `by` takes words of tokendance.usage_words, apart by commas or repeated; `since` and `until` its times; `model` and
    `user` narrow and may be repeated. Raises invalid_request.
    """
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise _invalid(f"Give at most {_MOST_PARAMETERS} parameters.", None) from None
    for name in given:
        if name not in _PARAMETERS:
            raise _invalid(f"The parameters are {', '.join(sorted(_PARAMETERS))}.", name)
    words = [word for text in given.get("by", []) for word in text.split(",") if word]
    request = pb.GetUsageRequest(page_token=_last(given.get("page_token")))
    request.filter.models.extend(given.get("model", []))
    request.filter.users.extend(given.get("user", []))
    try:
        groups, request.interval = grouping(words)
    except ValueError as exc:
        raise _invalid(str(exc), "by") from None
    request.group_by.extend(groups)
    for name, field in (("since", request.start_time), ("until", request.end_time)):
        if name in given:
            try:
                field.FromDatetime(moment(_last(given[name]), now))
            except (ValueError, OverflowError) as exc:
                raise _invalid(str(exc), name) from None
    size = _last(given.get("page_size"))
    if size:
        if not (size.isascii() and size.isdecimal() and len(size) <= 5):
            raise _invalid("page_size is a whole number from 1 to 10000.", "page_size")
        request.page_size = int(size)
    return request, columns(words)


def report(answer: pb.GetUsageResponse, words: Sequence[str]) -> Document:
    """Return rows, each with what it is of by the words asked for, their totals, and the next page's token or null.

    Money is in millionths of a US dollar, latencies are in milliseconds.
    """
    rows = [
        {
            **({"start_at": _time(row.start_time)} if row.HasField("start_time") else {}),
            **dict(zip(words, row.values, strict=True)),
            **_totals(row.totals),
        }
        for row in answer.rows
    ]
    return {
        "object": "usage",
        "rows": rows,
        "totals": _totals(answer.totals),
        "complete_until": _time(answer.complete_until_time),
        "next_page_token": answer.next_page_token or None,
    }


def request(found: usage_pb2.RequestRecord) -> Document:
    """Return all that support needs of one request: no prompt, no answer and no secret is in it.

    What only administrators see is left out where it is not told.
    """
    record = found.record
    return {
        "object": "request",
        "id": record.request_id,
        "name": record.name,
        "started_at": _time(record.start_time),
        "ended_at": _time(record.end_time) if record.HasField("end_time") else None,
        "outcome": _word(usage_pb2.RequestOutcome.Name(record.outcome), "REQUEST_OUTCOME_"),
        "status": record.http_status or None,
        "code": spec_of(record.reason).code if record.reason else None,
        "message": found.message or None,
        "host": found.host or None,
        "route": found.route,
        "surface": _word(errors_pb2.Surface.Name(record.surface), "SURFACE_"),
        "stream": record.streamed,
        "delivery": _word(usage_pb2.DeliveryOutcome.Name(record.delivery), "DELIVERY_OUTCOME_"),
        "credential": _word(usage_pb2.CredentialKind.Name(found.credential_kind), "CREDENTIAL_KIND_"),
        "key": record.key or None,
        "client": {"kind": record.client_kind, "version": record.client_version} if record.client_kind else None,
        "requested_model": record.requested_model,
        "served_model": record.served_model or None,
        "usage": _counts(record.usage),
        "estimated": record.estimated,
        "cost_micros": record.cost_micros if record.HasField("cost_micros") else None,
        "replay_of": record.replay_of or None,
        "user": record.user or None,
        "metadata": dict(record.metadata),
        "labels": dict(record.labels),
        "first_byte_ms": _milliseconds(record.first_byte_latency) if record.HasField("first_byte_latency") else None,
        "total_ms": _milliseconds(record.total_latency) if record.HasField("total_latency") else None,
        "added_ms": _milliseconds(record.added_latency) if record.HasField("added_latency") else None,
        "attempts": [_attempt(one) for one in found.attempts],
        "limits": [_limit(one) for one in found.limits],
        "warnings": [{"field": one.field, "why": one.why} for one in found.warnings],
        **({"address": found.address} if found.address else {}),
        **({"node": found.node} if found.node else {}),
    }


def _attempt(one: usage_pb2.RequestAttempt) -> Document:
    return {
        "number": one.number,
        "provider": one.provider_label,
        "model": one.model,
        "started_at": _time(one.start_time),
        "outcome": _word(usage_pb2.RequestOutcome.Name(one.outcome), "REQUEST_OUTCOME_"),
        "code": spec_of(one.reason).code if one.reason else None,
        "upstream_status": one.upstream_status or None,
        "connect_ms": _milliseconds(one.connect_latency) if one.HasField("connect_latency") else None,
        "first_byte_ms": _milliseconds(one.first_byte_latency) if one.HasField("first_byte_latency") else None,
        "total_ms": _milliseconds(one.total_latency) if one.HasField("total_latency") else None,
        "usage": _counts(one.usage),
        "cost_micros": one.cost_micros if one.HasField("cost_micros") else None,
        **({"provider_name": one.provider} if one.provider else {}),
        **({"upstream_model": one.upstream_model} if one.upstream_model else {}),
        **({"upstream_request_id": one.upstream_request_id} if one.upstream_request_id else {}),
    }


def _limit(one: usage_pb2.ConsultedLimit) -> Document:
    rule = one.rule
    return {
        "subject": one.subject,
        "metric": _word(quota_pb2.LimitMetric.Name(rule.metric), "LIMIT_METRIC_"),
        "window": _word(quota_pb2.LimitWindow.Name(rule.window), "LIMIT_WINDOW_"),
        "model": rule.model or None,
        "soft": rule.soft,
        "limit": rule.limit,
        "spent": one.spent,
        "held": one.held,
        "asked": one.asked,
        "refused": one.refused,
        "reset_at": _time(one.reset_time) if one.HasField("reset_time") else None,
    }


def _totals(totals: usage_pb2.UsageTotals) -> Document:
    first, whole = totals.mean_first_byte_latency, totals.mean_total_latency
    return {
        "requests": totals.requests,
        "succeeded_requests": totals.succeeded_requests,
        "refused_requests": totals.refused_requests,
        "failed_requests": totals.failed_requests,
        **{name: getattr(totals, name) for name in _COUNTS},
        "cost_micros": totals.cost_micros,
        "unpriced_requests": totals.unpriced_requests,
        "estimated_requests": totals.estimated_requests,
        "mean_first_byte_ms": _milliseconds(first) if totals.HasField("mean_first_byte_latency") else None,
        "mean_total_ms": _milliseconds(whole) if totals.HasField("mean_total_latency") else None,
    }


def _counts(usage: completion_pb2.Usage) -> Document:
    return {name: getattr(usage, name) for name in _COUNTS}


def _word(name: str, prefix: str) -> str | None:
    word = name.removeprefix(prefix).lower()
    return None if word == "unspecified" else word


def _milliseconds(duration: Duration) -> float:
    return duration.ToMicroseconds() / 1000


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString())


def _last(values: Sequence[str] | None) -> str:
    return values[-1] if values else ""


def _invalid(message: str, param: str | None) -> GatewayError:
    shown = None if param is None else param[:64]
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=shown, origin="caller")
