"""Quotas: listed with what is spent and held apart, and changed after a look at what the change would do."""

from __future__ import annotations

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.limits import limit_rows, quota_table
from tokendance_facade.console.pages.names import read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.pages.requests import limit_rule
from tokendance_facade.console.routes import nothing_there
from tokendance_facade.console.views import Action, Actions, Block, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import MANAGERS, Visit

_KINDS = [("", "everybody"), ("4", "organization"), ("3", "teams"), ("2", "members"), ("1", "keys")]
_SHARES = [("", "any"), ("50", "half or more"), ("80", "80 % or more"), ("100", "all of it")]
_BLANK_ROWS = 2
_METRICS = [("", "no limit"), *((str(one), text) for one, text in words.METRICS.items())]
_WINDOWS = [(str(one), text or "no window") for one, text in words.WINDOWS.items()]


async def list_quotas(visit: Visit) -> View:
    """Show the limits that the person may see, with where they stand."""
    query = visit.query
    names = await read_names(visit, keys=True)
    request = pb.ListQuotasRequest(
        parent=visit.organization,
        page_size=PAGE_SIZE,
        page_token=page_token(visit),
        subject_kind=number(query.get("kind")),  # type: ignore[arg-type] # the server refuses unknown numbers
        used_percent=number(query.get("used")),
    )
    found = await visit.call(visit.stubs.quota.ListQuotas, request)
    table = quota_table(visit, found.quotas, names, "")
    table = Table(
        "", table.columns, table.rows, table.empty, table.advice,
        next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    fields = [
        Field("kind", "Whose", "select", query.get("kind"), options=_KINDS),
        Field("used", "Used", "select", query.get("used"), options=_SHARES),
    ]
    blocks: list[Block] = []
    if query.get("done") == "changed":
        blocks.append(Notice("The limits are changed. Calls that run go on; new ones meet the new limits.", "good"))
    if visit.is_any(MANAGERS):
        whole = f"{visit.base}/quota/change?of={visit.organization}"
        teams = [(label, f"{visit.base}/quota/change?of={name}") for name, label in names.teams]
        others = [("the whole organization", whole), *teams]
        blocks.append(Actions([Action(f"Change: {label}", href) for label, href in others[:6]]))
    lead = "Spent is what finished calls used, held what running calls may still use. A call must fit into every limit."
    return View("Quota", [*blocks, filters(visit, fields), table], lead)


async def ask_change(visit: Visit) -> View:
    """Show the limits of one subject as a form."""
    quota = await _read(visit, visit.query.get("of") or visit.form.get("of"))
    rules = [one.rule for one in quota.limits]
    fields: list[Field] = []
    for place in range(len(rules) + _BLANK_ROWS):
        rule = rules[place] if place < len(rules) else None
        cost = rule is not None and words.METRICS.get(rule.metric) == "cost"
        height = "" if rule is None else (f"{rule.limit / 1e6:g}" if cost else str(rule.limit))
        fields += [
            Field(f"metric{place}", f"Limit {place + 1}", "select",
                  "" if rule is None else str(rule.metric), options=_METRICS, row=place + 1),
            Field(f"window{place}", "Window", "select",
                  "3" if rule is None else str(rule.window), options=_WINDOWS, row=place + 1),
            Field(f"limit{place}", "At most", value=height, row=place + 1),
            Field(f"model{place}", "One model only", value="" if rule is None else rule.model, row=place + 1),
            Field(f"soft{place}", "Only warn", "check", "yes" if rule is not None and rule.soft else "", row=place + 1),
        ]  # fmt: skip
    fields.append(Field("reason", "Why, for the audit trail", longest=500, row=len(rules) + _BLANK_ROWS + 1))
    path = f"{visit.base}/quota/change"
    form = Form(
        path, fields, "Show what it would do", visit.csrf(path), cancel=f"{visit.base}/quota",
        hidden=[("of", quota.subject), ("etag", quota.etag)],
    )  # fmt: skip
    title = quota.display_name or words.id_of(quota.subject)
    return View(
        f"Limits of {title}",
        [form],
        "Heights of cost are in US dollars. Choose no limit to take one away.",
        [(f"{visit.base}/quota", "Quota")],
    )


async def _read(visit: Visit, subject: str) -> pb.Quota:
    # Other organizations' subjects belong to other addresses.
    if subject != visit.organization and not subject.startswith(visit.organization + "/"):
        raise nothing_there()
    quota: pb.Quota = (await visit.call(visit.stubs.quota.GetQuota, pb.GetQuotaRequest(subject=subject))).quota
    return quota


async def change(visit: Visit) -> View | str:
    """Show what new limits would do, or put them in place."""
    form = visit.form
    subject = form.get("of")
    if subject != visit.organization and not subject.startswith(visit.organization + "/"):
        raise nothing_there()
    quota = pb.Quota(subject=subject, etag=form.get("etag"))
    place = 0
    while any(name == f"metric{place}" for name, _ in form.items()):
        if form.has(f"metric{place}"):
            rule = limit_rule(
                form.get(f"metric{place}"),
                form.get(f"window{place}"),
                form.get(f"limit{place}"),
                f"limit{place}",
                model=form.get(f"model{place}"),
                soft=form.has(f"soft{place}"),
            )
            quota.limits.append(pb.QuotaLimit(rule=rule))
        place += 1
    confirmed = form.get("do") == "apply"
    request = pb.SetQuotaRequest(quota=quota, validate_only=not confirmed, reason=form.get("reason"))
    answer = await visit.call(visit.stubs.quota.SetQuota, request)
    if confirmed:
        return f"{visit.base}/quota?done=changed"
    return _preview(visit, answer)


def _preview(visit: Visit, answer: pb.SetQuotaResponse) -> View:
    path = f"{visit.base}/quota/change"
    hidden = [(name, value) for name, value in visit.form.items() if name not in ("csrf", "do")]
    form = Form(
        path, [], "Change the limits", visit.csrf(path), danger=True, cancel=f"{visit.base}/quota",
        hidden=[*hidden, ("do", "apply")],
    )  # fmt: skip
    columns = ["Limit", "Spent", "Held by running calls", "Left", "Starts anew", "Runs out at this pace"]
    before = Table("Now", columns, limit_rows(answer.previous.limits), "No limits of its own.")
    after = Table("Then", columns, limit_rows(answer.quota.limits), "No limits of its own.")
    full = [words.rule(one.rule) for one in answer.quota.limits if not one.rule.soft and not one.remaining]
    told = (
        Notice("New calls would be refused at once by these limits:", "warn", full)
        if full
        else Notice("No call would be refused at once: every limit has something left.", "good")
    )
    return View("What the change would do", [told, before, after, form], trail=[(f"{visit.base}/quota", "Quota")])
