"""Keys: listed by team and owner, shown with what they spend, rotated, stopped and revoked."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_service_pb2, usage_pb2
from tokendance_facade.console import words
from tokendance_facade.console.pages.limits import quota_table
from tokendance_facade.console.pages.names import Names, read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.pages.plots import usage_by_day
from tokendance_facade.console.routes import Outcome
from tokendance_facade.console.views import Action, Actions, Cell, Facts, Field, Form, Notice, Secret, Table, View
from tokendance_facade.console.visit import MANAGERS, Visit
from tokendance_facade.console.words import KEY_STATE

_OVERLAPS = (("0", "not at all"), ("3600", "an hour"), ("86400", "a day"), ("604800", "7 days"), ("2592000", "30 days"))
_DONE = {
    "revoked": "The key is revoked: no node takes it any more.",
    "suspended": "The key is suspended until somebody resumes it.",
    "resumed": "The key works again.",
}


async def list_keys(visit: Visit) -> View:
    """Show the keys that the person may see."""
    query = visit.query
    names = await read_names(visit)
    mine = visit.member if query.get("whose") == "mine" else query.get("owner")
    request = pb.ListKeysRequest(
        parent=visit.organization,
        page_size=PAGE_SIZE,
        page_token=page_token(visit),
        team=query.get("team"),
        owner=mine,
        state=number(query.get("state")),  # type: ignore[arg-type] # the server refuses unknown numbers
        rotation_overdue=query.get("overdue") == "yes",
    )
    found = await visit.call(visit.stubs.keys.ListKeys, request)
    rows = [key_row(visit, one, names) for one in found.keys]
    fields = [
        Field("team", "Team", "select", query.get("team"), options=[("", "every team"), *names.teams]),
        Field("owner", "Owner", "select", query.get("owner"), options=[("", "everybody"), *names.members]),
        Field("state", "State", "select", query.get("state"), options=words.options(KEY_STATE, anything="any state")),
        Field("overdue", "Only overdue rotations", "check", query.get("overdue")),
    ]
    table = Table(
        "",
        ["Purpose", "State", "Owner", "Team", "Secret", "Rotation due", "Last used"],
        rows,
        "No key matches.",
        "Ask for one, or show more of them.",
        next_href(visit, found.next_page_token),
        first_href(visit),
    )
    ask = Actions([Action("Ask for a key", f"{visit.base}/requests/new", "primary")])
    lead = "Each key has a purpose, an owner, a quota, and somebody who rotates it."
    return View("Keys", [*([ask] if visit.member else []), filters(visit, fields), table], lead)


def key_row(visit: Visit, key: pb.Key, names: Names) -> list[Cell]:
    """Return a key as a row of a list."""
    due = words.moment(key.rotation, "due_time")
    if is_overdue(visit, key):
        due = Cell(due.text, kind="time", hint="overdue")
    return [
        Cell(key.purpose, href=f"{visit.base}/keys/{words.id_of(key.name)}"),
        words.key_state(key.state),
        names.cell(key.owner),
        names.cell(key.team),
        Cell(f"{key.secret_prefix}…{key.secret_suffix}" if key.secret_prefix else words.NOTHING, kind="mono"),
        due,
        words.moment(key, "last_used_time"),
    ]


def is_overdue(visit: Visit, key: pb.Key) -> bool:
    """Tell whether the rotation of a key that works is overdue."""
    due = key.rotation.due_time.ToDatetime(tzinfo=visit.instant().tzinfo)
    return key.state == pb.KEY_STATE_ACTIVE and key.rotation.HasField("due_time") and due < visit.instant()


async def show_key(visit: Visit) -> View:
    """Show one key: what it is for, what it may, what it spends."""
    key = await read_key(visit)
    names = await read_names(visit)
    quota = await visit.try_call(
        visit.stubs.quota.GetQuota, quota_service_pb2.GetQuotaRequest(subject=key.name, include_inherited=True)
    )
    done = _DONE.get(visit.query.get("done"), "")
    blocks = [
        *([Notice(done, "good")] if done else []),
        *([Notice("The rotation of this key is overdue.", "warn")] if is_overdue(visit, key) else []),
        Facts("", _facts(key, names)),
        Actions(_actions(visit, key)),
        *([] if quota is None else [quota_table(visit, [quota.quota, *quota.inherited], names, "Quota")]),
        *await usage_by_day(visit, usage_pb2.UsageFilter(keys=[key.name]), days=30),
    ]
    return View(key.purpose, blocks, key.name, _trail(visit))


async def read_key(visit: Visit) -> pb.Key:
    """Return the key that the path names."""
    request = pb.GetKeyRequest(name=f"{visit.organization}/keys/{visit.path['id']}")
    key: pb.Key = (await visit.call(visit.stubs.keys.GetKey, request)).key
    return key


def _facts(key: pb.Key, names: Names) -> list[tuple[str, Cell]]:
    quota = "limits of its own" if key.quota.WhichOneof("source") == "limits" else names.of(key.quota.inherited_from)
    return [
        ("State", words.key_state(key.state)),
        ("Owner", names.cell(key.owner)),
        ("Team", names.cell(key.team)),
        (
            "Secret",
            Cell(f"{key.secret_prefix}…{key.secret_suffix}" if key.secret_prefix else words.NOTHING, kind="mono"),
        ),
        ("Quota", Cell(quota)),
        ("Models", Cell(", ".join(key.allowed_models) or "every model that the organization sees")),
        ("Networks", Cell(", ".join(key.allowed_networks) or "any")),
        ("Labels", Cell(", ".join(f"{name}={value}" for name, value in sorted(key.labels.items())) or words.NOTHING)),
        ("Rotation", Cell(f"every {words.length(key.rotation.period)} by {names.of(key.rotation.responsible)}")),
        ("Rotation due", words.moment(key.rotation, "due_time")),
        ("Expires", words.moment(key, "expire_time")),
        ("Created", words.moment(key, "create_time")),
        ("Last rotated", words.moment(key, "rotate_time")),
        ("Last used", words.moment(key, "last_used_time")),
    ]


def _actions(visit: Visit, key: pb.Key) -> list[Action]:
    path = f"{visit.base}/keys/{words.id_of(key.name)}"
    actions = [Action("Its calls", f"{visit.base}/calls?of={quote(key.name, safe='')}")]
    own = visit.is_any(MANAGERS) or visit.member in (key.owner, key.rotation.responsible)
    if key.state in (pb.KEY_STATE_ACTIVE, pb.KEY_STATE_SUSPENDED) and own:
        actions.append(Action("Rotate", f"{path}/rotate", "primary"))
    if key.state == pb.KEY_STATE_ACTIVE and visit.is_any(MANAGERS):
        actions.append(Action("Suspend", f"{path}/suspend"))
    if key.state == pb.KEY_STATE_SUSPENDED and visit.is_any(MANAGERS):
        actions.append(Action("Resume", f"{path}/resume"))
    if key.state != pb.KEY_STATE_REVOKED and own:
        actions.append(Action("Revoke", f"{path}/revoke", "danger"))
    return actions


def _trail(visit: Visit, key: pb.Key | None = None) -> list[tuple[str, str]]:
    trail = [(f"{visit.base}/keys", "Keys")]
    return trail if key is None else [*trail, (f"{visit.base}/keys/{words.id_of(key.name)}", key.purpose)]


async def ask_rotate(visit: Visit) -> View:
    """Ask how to rotate a key, and say what will happen."""
    visit.require_fresh()
    key = await read_key(visit)
    fields = [
        Field(
            "overlap",
            "How long the old secret goes on working",
            "select",
            "86400",
            options=_OVERLAPS,
            hint="Long enough to put the new one everywhere; not at all where the old one has leaked.",
        )
    ]
    path = visit.exchange.path
    form = Form(
        path, fields, "Rotate and show the new secret", visit.csrf(path), cancel=path.removesuffix("/rotate"),
        hidden=[("etag", key.etag)],
    )  # fmt: skip
    told = Notice(
        "A new secret is made and shown to you once, on the next page.",
        "",
        ["Both secrets work until the overlap ends, then only the new one.", "What runs with the old one must get it."],
    )
    return View(f"Rotate: {key.purpose}", [told, form], trail=_trail(visit, key))


async def rotate(visit: Visit) -> View:
    """Rotate a key and show its secret this once."""
    visit.require_fresh()
    seconds = number(visit.form.get("overlap"))
    request = pb.RotateKeyRequest(name=f"{visit.organization}/keys/{visit.path['id']}", etag=visit.form.get("etag"))
    request.overlap.FromTimedelta(timedelta(seconds=seconds))
    answer = await visit.call(visit.stubs.keys.RotateKey, request)
    return secret_view(visit, answer.key, answer.secret, words.moment(answer, "old_secret_expire_time"))


def secret_view(visit: Visit, key: pb.Key, secret: str, old_ends: Cell | None = None) -> View:
    """Return the one page that shows a secret."""
    path = f"{visit.base}/keys/{words.id_of(key.name)}"
    told = Notice(
        "Copy the secret now: it is kept nowhere, and nobody can show it again. If it is lost, rotate the key.",
        "warn",
        ["Put it into a secret store or an environment variable, never into code, tickets or chat messages."],
    )
    pairs = [] if old_ends is None else [Facts("", [("The old secret ends", old_ends)])]
    done = Actions([Action("Done: leave this page", path, "primary")])
    return View(f"The secret of: {key.purpose}", [told, Secret(secret), *pairs, done])


async def ask_revoke(visit: Visit) -> View:
    """Ask whether to revoke a key, and say what will happen."""
    key = await read_key(visit)
    told = Notice(
        f"The key {key.secret_prefix}…{key.secret_suffix} ends for good, on every node within a second.",
        "warn",
        [
            "Calls with it are refused, and streams that run with it end.",
            "It cannot be brought back; what it used stays in the records.",
        ],
    )
    return View(f"Revoke: {key.purpose}", [told, _reasoned(visit, "Revoke the key")], trail=_trail(visit, key))


async def revoke(visit: Visit) -> str:
    """Revoke a key."""
    request = pb.RevokeKeyRequest(name=_name(visit), reason=visit.form.get("reason"))
    await visit.call(visit.stubs.keys.RevokeKey, request)
    return _back(visit, "revoked")


async def ask_suspend(visit: Visit) -> View:
    """Ask whether to suspend a key."""
    key = await read_key(visit)
    told = Notice("Calls with the key are refused within a second, until somebody resumes it.", "warn")
    return View(f"Suspend: {key.purpose}", [told, _reasoned(visit, "Suspend the key")], trail=_trail(visit, key))


async def suspend(visit: Visit) -> str:
    """Suspend a key."""
    request = pb.SuspendKeyRequest(name=_name(visit), reason=visit.form.get("reason"))
    await visit.call(visit.stubs.keys.SuspendKey, request)
    return _back(visit, "suspended")


async def ask_resume(visit: Visit) -> View:
    """Ask whether to resume a key."""
    key = await read_key(visit)
    path = visit.exchange.path
    form = Form(path, [], "Resume the key", visit.csrf(path), cancel=path.rpartition("/")[0])
    told = Notice("The secret that was suspended works again, wherever it is.")
    return View(f"Resume: {key.purpose}", [told, form], trail=_trail(visit, key))


async def resume(visit: Visit) -> Outcome:
    """Resume a key."""
    await visit.call(visit.stubs.keys.ResumeKey, pb.ResumeKeyRequest(name=_name(visit)))
    return _back(visit, "resumed")


def _reasoned(visit: Visit, submit: str) -> Form:
    path = visit.exchange.path
    reason = Field("reason", "Why, for the audit trail", longest=500)
    return Form(path, [reason], submit, visit.csrf(path), danger=True, cancel=path.rpartition("/")[0])


def _name(visit: Visit) -> str:
    return f"{visit.organization}/keys/{visit.path['id']}"


def _back(visit: Visit, done: str) -> str:
    return f"{visit.base}/keys/{visit.path['id']}?done={done}"
