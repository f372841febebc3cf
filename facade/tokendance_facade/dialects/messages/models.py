"""The catalogue in Anthropic's form: a list in pages, and one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import orjson

from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

_LIFECYCLES = frozenset({"active", "deprecated", "retired"})


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list is wanted: `limit` models behind `after_id` or before `before_id`, of some lifecycles."""

    limit: int = DEFAULT_LIMIT
    after_id: str = ""
    before_id: str = ""
    lifecycles: frozenset[str] = _LIFECYCLES


def decode_page(query: str) -> Page:
    """Read the query of the list. Raises invalid_request; names that nobody knows are passed over."""
    told = parse_qsl(query)
    fields = dict(told)
    limit = fields.get("limit", str(DEFAULT_LIMIT))
    count = int(limit) if limit.isdecimal() and len(limit) <= len(str(MAX_LIMIT)) else 0
    lifecycles = [value for name, value in told if name in ("lifecycle[]", "lifecycle")]
    for value in lifecycles:
        checks.one_of(value, "lifecycle[]", _LIFECYCLES)
    if fields.get("after_id") and fields.get("before_id"):
        raise checks.invalid("before_id", "Send `after_id` or `before_id`, not both.")
    return Page(
        checks.integer(count, "limit", 1, MAX_LIMIT),
        fields.get("after_id", ""),
        fields.get("before_id", ""),
        frozenset(lifecycles) or _LIFECYCLES,
    )


def encode_list(models: Sequence[pb.Model], page: Page, now: datetime) -> bytes:
    """Return the body of `GET /v1/models`. Raises invalid_request for an id that is not in the list."""
    documents = [document for model in models if (document := _model(model, now))["lifecycle"] in page.lifecycles]
    ids = [document["id"] for document in documents]
    start, end = 0, len(ids)
    if page.after_id:
        start = _place(ids, page.after_id, "after_id") + 1
    if page.before_id:
        end = _place(ids, page.before_id, "before_id")
    more = end - start > page.limit
    start, end = (max(start, end - page.limit), end) if page.before_id else (start, min(end, start + page.limit))
    shown = documents[start:end]
    return orjson.dumps(
        {
            "data": shown,
            "has_more": more,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
        }
    )


def encode_one(model: pb.Model, now: datetime) -> bytes:
    """Return the body of `GET /v1/models/{id}`."""
    return orjson.dumps(_model(model, now))


def _model(model: pb.Model, now: datetime) -> Document:
    document: Document = {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name or model.id,
        "created_at": _time(model.create_time.seconds),
        "lifecycle": "active",
    }
    if model.HasField("context_window"):
        document["max_input_tokens"] = model.context_window
    if model.HasField("max_output_tokens"):
        document["max_tokens"] = model.max_output_tokens
    if model.HasField("deprecate_time"):
        document["deprecated_at"] = _time(model.deprecate_time.seconds)
        if model.deprecate_time.seconds <= now.timestamp():
            document["lifecycle"] = "deprecated"
    return document


def _place(ids: list[str], wanted: str, name: str) -> int:
    try:
        return ids.index(wanted)
    except ValueError:
        raise checks.invalid(name, f"`{name}` must be the id of a model of this list.") from None


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
