"""Requests for keys: asked by members, decided by administrators, revealed once to who asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_pb2
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.forms import Values
from tokendance_facade.console.pages.keys import secret_view
from tokendance_facade.console.pages.names import Names, read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.routes import nothing_there
from tokendance_facade.console.views import Action, Actions, Block, Cell, Facts, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import MANAGERS, Visit
from tokendance_facade.console.words import KEY_REQUEST_STATE

_PAGES = 20
_DONE = {
    "asked": "Your request is made. Once it is granted you reveal the secret here, once.",
    "granted": "The request is granted: who asked can reveal the secret now.",
    "denied": "The request is denied, and who asked sees your reason.",
}
_METRICS = [("", "no limit of its own"), *((str(number), text) for number, text in words.METRICS.items())]
_WINDOWS = [(str(number), text or "no window") for number, text in words.WINDOWS.items()]
_DAY_S = 86_400


async def list_requests(visit: Visit) -> View:
    """Show the requests that the person may see; those that wait for a decision first where there are any."""
    query = visit.query
    names = await read_names(visit)
    request = pb.ListKeyRequestsRequest(
        parent=visit.organization,
        page_size=PAGE_SIZE,
        page_token=page_token(visit),
        state=number(query.get("state")),  # type: ignore[arg-type] # the server refuses unknown numbers
    )
    found = await visit.call(visit.stubs.keys.ListKeyRequests, request)
    states = words.options(KEY_REQUEST_STATE, anything="any state")
    table = Table(
        "",
        ["Purpose", "State", "Asked by", "Team", "Made", "Decided", "What to do"],
        [_row(visit, one, names) for one in found.key_requests],
        "No request here.",
        "Members ask for keys; administrators decide.",
        next_href(visit, found.next_page_token),
        first_href(visit),
    )
    done = _DONE.get(query.get("done"), "")
    blocks: list[Block] = [
        *([Notice(done, "good")] if done else []),
        *([Actions([Action("Ask for a key", f"{visit.base}/requests/new", "primary")])] if visit.member else []),
        filters(visit, [Field("state", "State", "select", query.get("state"), options=states)]),
        table,
    ]
    return View("Requests for keys", blocks, "A key is asked for, granted, and revealed once to who asked.")


def _row(visit: Visit, request: pb.KeyRequest, names: Names) -> list[Cell]:
    path = f"{visit.base}/requests/{words.id_of(request.name)}"
    todo = Cell(words.NOTHING)
    if request.state == pb.KEY_REQUEST_STATE_PENDING and visit.is_any(MANAGERS):
        todo = Cell("Decide", href=f"{path}/decide")
    elif request.state == pb.KEY_REQUEST_STATE_APPROVED and request.requester == visit.member:
        todo = Cell("Reveal the secret", href=f"{path}/reveal")
    elif request.decision_reason:
        todo = Cell(words.NOTHING, hint=request.decision_reason)
    return [
        Cell(request.key.purpose),
        words.state(KEY_REQUEST_STATE, request.state),
        names.cell(request.requester),
        names.cell(request.key.team),
        words.moment(request, "create_time"),
        words.moment(request, "decide_time"),
        todo,
    ]


async def ask_new(visit: Visit) -> View:
    """Ask what the key is for."""
    names = await read_names(visit)
    if not names.teams:
        return View("Ask for a key", [Notice("You are in no team yet, and a key belongs to one.", "warn")])
    path = visit.exchange.path
    form = Form(path, _wishes(names, None), "Ask for the key", visit.csrf(path), cancel=f"{visit.base}/requests")
    lead = "Somebody decides about it, unless a policy of your organization grants it at once."
    return View("Ask for a key", [form], lead, [(f"{visit.base}/requests", "Requests")])


def _wishes(names: Names, key: pb.Key | None) -> list[Field]:
    rule = key.quota.limits.rules[0] if key is not None and key.quota.limits.rules else None
    cost = rule is not None and rule.metric == quota_pb2.LIMIT_METRIC_COST_MICROS
    height = "" if rule is None else (f"{rule.limit / 1e6:g}" if cost else str(rule.limit))
    days = str(round(key.rotation.period.seconds / _DAY_S)) if key is not None else "90"
    return [
        Field("purpose", "What it is for", value="" if key is None else key.purpose, required=True, longest=200,
              hint="Such as: nightly evaluation of the search ranking."),
        Field("team", "Team", "select", "" if key is None else key.team, options=names.teams),
        Field("models", "Models that it may call", "area", "" if key is None else "\n".join(key.allowed_models),
              hint="Public names, one a line; empty: every model that the organization sees."),
        Field("metric", "Limit of its own", "select", "" if rule is None else str(rule.metric), options=_METRICS,
              hint="Besides those of its owner, team and organization."),
        Field("limit", "Height of the limit", value=height, hint="In US dollars where it is cost."),
        Field("window", "Window of the limit", "select", "3" if rule is None else str(rule.window), options=_WINDOWS),
        Field("period", "Rotated every so many days", "number", days, required=True, hint="1 to 3,650."),
        Field("responsible", "Who rotates it", "select", "" if key is None else key.rotation.responsible,
              options=[("", "me")] if key is None else names.members or [(key.rotation.responsible, "as asked")]),
        Field("expires", "Ends after so many days", "number", hint="Empty: it does not end by itself."),
        Field("networks", "Networks that it may be used from", "area",
              "" if key is None else "\n".join(key.allowed_networks), hint="In CIDR form, one a line; empty: any."),
    ]  # fmt: skip


async def ask(visit: Visit) -> str:
    """Make the request."""
    key = _wanted(visit, visit.form, visit.member)
    key.owner = visit.member
    request = pb.RequestKeyRequest(parent=visit.organization, key=key)
    made = (await visit.call(visit.stubs.keys.RequestKey, request)).key_request
    if made.state == pb.KEY_REQUEST_STATE_APPROVED:
        return f"{visit.base}/requests/{words.id_of(made.name)}/reveal"
    return f"{visit.base}/requests?done=asked"


def _wanted(visit: Visit, form: Values, responsible: str) -> pb.Key:
    key = pb.Key(
        purpose=form.get("purpose"),
        team=form.get("team"),
        allowed_models=form.lines("models"),
        allowed_networks=form.lines("networks"),
    )
    key.rotation.responsible = form.get("responsible") or responsible
    key.rotation.period.FromTimedelta(timedelta(days=_days(form, "period")))
    if form.has("expires"):
        key.expire_time.FromDatetime(visit.instant() + timedelta(days=_days(form, "expires")))
    if form.has("metric"):
        key.quota.limits.rules.append(limit_rule(form.get("metric"), form.get("window"), form.get("limit"), "limit"))
    else:
        key.quota.inherited_from = key.team
    return key


def limit_rule(metric: str, window: str, height: str, param: str, *, model: str = "", soft: bool = False) -> Any:
    """Return a limit that a form holds; its height is in US dollars where it is cost. Raises invalid_request."""
    rule = quota_pb2.LimitRule(model=model, soft=soft)
    rule.metric = number(metric)  # type: ignore[assignment] # the server refuses unknown numbers
    if rule.metric != quota_pb2.LIMIT_METRIC_CONCURRENT_REQUESTS:
        rule.window = number(window)  # type: ignore[assignment] # the server refuses unknown numbers
    try:
        value = float(height.replace(",", "").removeprefix("$"))
        whole = round(value * 1_000_000) if rule.metric == quota_pb2.LIMIT_METRIC_COST_MICROS else int(value)
        if not 0 <= whole < 2**63 or (whole != value and rule.metric != quota_pb2.LIMIT_METRIC_COST_MICROS):
            raise ValueError
    except (ValueError, OverflowError):
        raise _invalid(
            "Write the height of the limit as a whole number, or in dollars where it is cost.", param
        ) from None
    rule.limit = whole
    return rule


def _days(form: Values, name: str) -> int:
    days = number(form.get(name))
    if not 1 <= days <= 3650:
        raise _invalid("Write a number of days from 1 to 3,650.", name)
    return days


def _invalid(message: str, param: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param, origin="caller")


async def ask_decide(visit: Visit) -> View:
    """Show what is asked for, to be granted as it is, changed, or denied."""
    request = await _find(visit)
    names = await read_names(visit)
    path = visit.exchange.path
    fields = [*_wishes(names, request.key), Field("reason", "Why, for who asked and the audit trail", longest=500)]
    form = Form(
        path, fields, "Grant as written here", visit.csrf(path), second=("deny", "Deny"),
        cancel=f"{visit.base}/requests", hidden=[("etag", request.etag)],
    )  # fmt: skip
    told = Facts("", [("Asked by", names.cell(request.requester)), ("Made", words.moment(request, "create_time"))])
    notice = Notice("Once granted, who asked reveals the secret, once; you never see it.")
    return View(f"Decide: {request.key.purpose}", [told, notice, form], trail=[(f"{visit.base}/requests", "Requests")])


async def decide(visit: Visit) -> str:
    """Grant or deny a request."""
    name, form = f"{visit.organization}/keyRequests/{visit.path['id']}", visit.form
    if form.get("do") == "deny":
        denial = pb.DenyKeyRequestRequest(name=name, reason=form.get("reason"), etag=form.get("etag"))
        await visit.call(visit.stubs.keys.DenyKeyRequest, denial)
        return f"{visit.base}/requests?done=denied"
    asked = await _find(visit)
    key = _wanted(visit, form, asked.key.rotation.responsible)
    key.owner = asked.key.owner
    key.labels.update(asked.key.labels)
    if not form.has("expires") and asked.key.HasField("expire_time"):
        key.expire_time.CopyFrom(asked.key.expire_time)
    if len(asked.key.quota.limits.rules) > 1:
        key.quota.limits.rules.extend(asked.key.quota.limits.rules[1:])
    elif not form.has("metric") and asked.key.quota.inherited_from:
        key.quota.inherited_from = asked.key.quota.inherited_from
    grant = pb.ApproveKeyRequestRequest(name=name, key=key, reason=form.get("reason"), etag=form.get("etag"))
    await visit.call(visit.stubs.keys.ApproveKeyRequest, grant)
    return f"{visit.base}/requests?done=granted"


async def ask_reveal(visit: Visit) -> View:
    """Ask whether to reveal the secret now, and say that it is shown once."""
    visit.require_fresh()
    request = await _find(visit)
    path = visit.exchange.path
    form = Form(path, [], "Reveal the secret", visit.csrf(path), cancel=f"{visit.base}/requests")
    told = Notice(
        "The secret is made at this moment and shown on the next page, this once.",
        "warn",
        ["Have the place ready where it belongs: a secret store, or an environment variable."],
    )
    until = Facts("", [("It can be revealed until", words.moment(request, "reveal_expire_time"))])
    return View(f"Reveal: {request.key.purpose}", [told, until, form], trail=[(f"{visit.base}/requests", "Requests")])


async def reveal(visit: Visit) -> View:
    """Show the secret this once."""
    visit.require_fresh()
    request = pb.RevealKeyRequest(name=f"{visit.organization}/keyRequests/{visit.path['id']}")
    answer = await visit.call(visit.stubs.keys.RevealKey, request)
    return secret_view(visit, answer.key, answer.secret)


async def _find(visit: Visit) -> pb.KeyRequest:
    """Return the request that the path names, out of those that the person may see. Raises not_found."""
    name = f"{visit.organization}/keyRequests/{visit.path['id']}"
    asked = pb.ListKeyRequestsRequest(parent=visit.organization, page_size=1000)
    for _ in range(_PAGES):
        found = await visit.call(visit.stubs.keys.ListKeyRequests, asked)
        for one in found.key_requests:
            if one.name == name:
                return one  # type: ignore[no-any-return] # stubs of grpc.aio are untyped
        if not found.next_page_token:
            break
        asked.page_token = found.next_page_token
    raise nothing_there()
