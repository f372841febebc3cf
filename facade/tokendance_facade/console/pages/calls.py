"""Calls one by one: the recent ones as a list, and the record of one by the id that support asks for."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.names import Names, read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.views import Block, Cell, Facts, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import Visit
from tokendance_facade.console.words import OUTCOME

_LOOKUP = "/console/lookup"
_STATES: Mapping[int, str] = {
    usage_pb2.REQUEST_OUTCOME_SUCCEEDED: "operational",
    usage_pb2.REQUEST_OUTCOME_REFUSED: "degraded",
    usage_pb2.REQUEST_OUTCOME_FAILED: "major_outage",
    usage_pb2.REQUEST_OUTCOME_CANCELLED: "unknown",
    usage_pb2.REQUEST_OUTCOME_UNKNOWN: "partial_outage",
}


async def list_calls(visit: Visit) -> View:
    """Show the calls that the person may see, the newest first."""
    query = visit.query
    names = await read_names(visit, keys=True)
    wanted = usage_pb2.UsageFilter(
        keys=[query.get("of")] if query.has("of") else [],
        models=[query.get("model")] if query.has("model") else [],
        outcomes=[number(query.get("outcome"))] if query.has("outcome") else [],  # type: ignore[list-item] # checked there
    )
    request = pb.ListUsageRecordsRequest(
        parent=visit.organization, page_size=PAGE_SIZE, page_token=page_token(visit), filter=wanted
    )
    found = await visit.call(visit.stubs.quota.ListUsageRecords, request)
    outcomes = words.options(OUTCOME, anything="any outcome")
    table = Table(
        "",
        ["Request", "When", "Outcome", "Model", "Key", "Input tokens", "Output tokens", "Cost", "Took"],
        [_row(visit, one, names) for one in found.usage_records],
        "No call matches.",
        "Calls show here a moment after they end.",
        next_href(visit, found.next_page_token),
        first_href(visit),
    )
    fields = [
        Field("model", "Model", value=query.get("model")),
        Field("outcome", "Outcome", "select", query.get("outcome"), options=outcomes),
        Field("of", "Key, by its resource name", value=query.get("of")),
    ]
    return View("Calls", [filters(visit, fields), table], "One row a request. No prompt and no answer is kept.")


def _row(visit: Visit, record: usage_pb2.UsageRecord, names: Names) -> list[Cell]:
    return [
        Cell(record.request_id, href=f"{_LOOKUP}?id={quote(record.request_id, safe='')}", kind="mono"),
        words.moment(record, "start_time"),
        _outcome(record.outcome, record.reason),
        Cell(record.served_model or record.requested_model),
        names.cell(record.key, visit.base),
        Cell(words.count(record.usage.input_tokens), kind="number"),
        Cell(words.count(record.usage.output_tokens), kind="number"),
        Cell(words.money(record.cost_micros) if record.HasField("cost_micros") else "no price", kind="number"),
        Cell(words.latency(record, "total_latency"), kind="number"),
    ]


def _outcome(outcome: int, reason: errors_pb2.ErrorReason.ValueType) -> Cell:
    text = words.word(OUTCOME, outcome) or "running"
    code = spec_of(reason).code if reason else ""
    return Cell(text.capitalize(), kind="state", state=_STATES.get(outcome, "unknown"), hint=code)


async def look_up(visit: Visit) -> View:
    """Show the record of one request id."""
    wanted = visit.query.get("id")
    field = Field(
        "id",
        "Request id",
        value=wanted,
        required=True,
        longest=200,
        hint="Such as req_…, from the header x-request-id.",
    )
    form = Form(_LOOKUP, [field], "Look it up", method="get")
    lead = "Paste the request id that a caller saw: in the header of an answer, in an error, in a log."
    blocks: list[Block] = [form]
    if wanted:
        blocks += await _record(visit, wanted)
    return View("Look up a request", blocks, lead)


async def _record(visit: Visit, wanted: str) -> list[Block]:
    try:
        answer = await visit.call(visit.stubs.quota.GetRequest, pb.GetRequestRequest(name=wanted))
    except GatewayError as error:
        if error.reason not in (errors_pb2.ERROR_REASON_NOT_FOUND, errors_pb2.ERROR_REASON_INVALID_REQUEST):
            raise
        advice = "It may be of another organization, too young (a few seconds), or refused before anybody was known."
        return [Notice(f"No request of this id is among those that you may see. {advice}", "warn")]
    found: usage_pb2.RequestRecord = answer.request
    record = found.record
    blocks: list[Block] = [Facts("The request", _facts(found))]
    if found.message:
        blocks.append(Notice(found.message, "bad"))
    blocks.append(
        Table(
            "Calls to providers",
            ["Attempt", "Provider", "Model", "Outcome", "Status", "First byte", "Took", "Cost"],
            [_attempt(one) for one in found.attempts],
            "None was made.",
        )
    )
    limits = [
        [
            Cell(words.rule(one.rule)),
            Cell(words.id_of(one.subject), kind="mono"),
            Cell(words.amount(one.rule.metric, one.spent), kind="number"),
            Cell(words.amount(one.rule.metric, one.held), kind="number"),
            Cell(words.amount(one.rule.metric, one.asked), kind="number"),
            Cell("refused", kind="warn") if one.refused else Cell(words.NOTHING),
        ]
        for one in found.limits
    ]
    columns = ["Limit", "Of", "Spent before", "Held then", "Asked for", "Verdict"]
    blocks.append(Table("Limits that were looked at", columns, limits, "No limit was looked at."))
    if found.warnings:
        rows = [[Cell(one.field, kind="mono"), Cell(one.why)] for one in found.warnings]
        blocks.append(Table("Left out or changed", ["Field", "Why"], rows, words.NOTHING))
    if record.labels or record.metadata:
        pairs = sorted([*record.labels.items(), *record.metadata.items()])
        rows = [[Cell(name, kind="mono"), Cell(value)] for name, value in pairs]
        blocks.append(Table("Labels and metadata of the caller", ["Name", "Value"], rows, words.NOTHING))
    return blocks


def _facts(found: usage_pb2.RequestRecord) -> list[tuple[str, Cell]]:
    record = found.record
    used = record.usage
    pairs = [
        ("Request id", Cell(record.request_id, kind="mono")),
        ("Outcome", _outcome(record.outcome, record.reason)),
        ("HTTP status", Cell(str(record.http_status or words.NOTHING))),
        ("Began", words.moment(record, "start_time")),
        ("First byte after", Cell(words.latency(record, "first_byte_latency"))),
        ("Took", Cell(words.latency(record, "total_latency"))),
        ("Of it the gateway", Cell(words.latency(record, "added_latency"))),
        ("Model asked for", Cell(record.requested_model or words.NOTHING)),
        ("Model that answered", Cell(record.served_model or words.NOTHING)),
        ("Key", Cell(record.key or words.NOTHING, kind="mono")),
        ("Tokens", Cell(f"{used.input_tokens:,} in, {used.output_tokens:,} out{', estimated' * record.estimated}")),
        ("Cost", Cell(words.money(record.cost_micros) if record.HasField("cost_micros") else "no price")),
        ("Route", Cell(found.route or words.NOTHING, kind="mono")),
        ("Client", Cell(f"{record.client_kind} {record.client_version}".strip() or words.NOTHING)),
        ("Delivered", Cell(words.word(usage_pb2.DeliveryOutcome, record.delivery).replace("_", " ") or "not reported")),
    ]
    optional = (("Host", found.host), ("Address", found.address), ("Node", found.node), ("Replay of", record.replay_of))
    return [*pairs, *((label, Cell(text, kind="mono")) for label, text in optional if text)]


def _attempt(one: usage_pb2.RequestAttempt) -> list[Cell]:
    provider = Cell(one.provider_label or words.id_of(one.provider) or words.NOTHING, hint=one.upstream_request_id)
    return [
        Cell(str(one.number)),
        provider,
        Cell(one.model, hint=one.upstream_model),
        _outcome(one.outcome, one.reason),
        Cell(str(one.upstream_status or words.NOTHING), kind="number"),
        Cell(words.latency(one, "first_byte_latency"), kind="number"),
        Cell(words.latency(one, "total_latency"), kind="number"),
        Cell(words.money(one.cost_micros) if one.HasField("cost_micros") else "no price", kind="number"),
    ]
