"""The person: how they see the console, and the session that they are in."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.paging import number
from tokendance_facade.console.views import Action, Actions, Cell, Facts, Field, Form, Notice, View
from tokendance_facade.console.visit import Visit
from tokendance_facade.console.words import KIND

_PATH = "/console/me"
_THEMES = [("0", "as my system"), ("1", "light"), ("2", "dark")]


async def show(visit: Visit) -> View:
    """Show who the person is here, and what they prefer."""
    caller, session = visit.caller, visit.session
    preferences = caller.preferences
    roles = ", ".join(words.word(KIND, one).replace("_", " ") for one in caller.kinds)
    facts = Facts(
        "",
        [
            ("Name", Cell(visit.person)),
            ("Address", Cell(caller.email or words.NOTHING)),
            ("Known here as", Cell(caller.name, kind="mono")),
            ("Roles", Cell(roles)),
            ("Signed in", words.stamp(session.sign_in_time)),
            ("The session ends without use", words.stamp(session.idle_expire_time)),
            ("It ends in any case", words.stamp(session.expire_time)),
        ],
    )
    fields = [
        Field("theme", "How the console looks", "select", str(preferences.theme), options=_THEMES),
        Field("time_zone", "Time zone", value=preferences.time_zone, longest=64,
              hint="Such as Europe/Berlin; empty: UTC."),
        Field("default_organization", "Organization to show first", value=preferences.default_organization, longest=200,
              hint="organizations/org_…; for people who are in none."),
    ]  # fmt: skip
    form = Form(_PATH, fields, "Save", visit.csrf(_PATH), title="What I prefer")
    done = [Notice("Saved. It is kept with your TokenDance ID.", "good")] if visit.query.has("done") else []
    out = Actions([Action("Sign out", "/console/sign-out", "danger")])
    return View("You", [*done, facts, out, form])


async def save(visit: Visit) -> str:
    """Keep what the person prefers."""
    form = visit.form
    wanted = organization_pb2.Preferences(
        theme=number(form.get("theme")),  # type: ignore[arg-type] # the server refuses unknown numbers
        time_zone=form.get("time_zone"),
        default_organization=form.get("default_organization"),
    )
    mask = FieldMask(paths=["theme", "time_zone", "default_organization"])
    request = pb.UpdatePreferencesRequest(preferences=wanted, update_mask=mask)
    await visit.call(visit.stubs.organizations.UpdatePreferences, request)
    return f"{_PATH}?done=yes"
