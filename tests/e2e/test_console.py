"""The console in a real browser: people sign in at a certified provider, and see what their roles let them see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Error as BrowserError
from tests.browser import PHONE, Reader, reading
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream
from tests.identity_provider import AUDIENCE, SECRET, running_identity_provider

from tokendance import Client
from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} =1+1"
HOME = "/console"


@dataclass(frozen=True)
class Office:
    """A node with a console, its organization, and a team and a member in it."""

    node: Node
    organization: str
    team: str
    member: str

    @property
    def origin(self) -> str:
        """Where the console is."""
        return self.node.internal[0]

    @property
    def base(self) -> str:
        """The path below which the organization's pages are."""
        return f"{HOME}/{self.organization.partition('/')[2]}"

    def operator(self) -> Client:
        """The node's own operator."""
        return Client(f"unix:{self.node.data_dir / 'admin.sock'}", api_key="")

    def call(self, secret: str) -> tuple[int, str]:
        """Call a model; return the status, and the request id or the error's code."""
        body = json.dumps({"model": "demo-echo", "messages": [{"role": "user", "content": "Hello"}]}).encode()
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.node.base_url}/chat/completions", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["x-request-id"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]["code"]


@pytest.fixture(scope="module")
def office(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A node whose people sign in at a provider, with an administrator and a member who were invited."""
    with running_identity_provider(tmp_path_factory.mktemp("provider")) as provider:
        settings = {
            "SERVER__IDENTITY__ISSUER": provider.issuer,
            "SERVER__IDENTITY__AUDIENCE": AUDIENCE,
            "SERVER__IDENTITY__GROUPS": json.dumps([{"value": "gateway-admins", "role": "platform_admin"}]),
            "SERVER__IDENTITY__CONSOLE__CLIENT_ID": "tokendance-console",
            "SERVER__IDENTITY__CONSOLE__CLIENT_SECRET": SECRET,
            "SERVER__IDENTITY__CONSOLE__SCOPE": "openid gateway",
        }
        folder = tmp_path_factory.mktemp("console")
        with running("one", folder, upstream.base_url, ["sim"], settings=settings) as node:
            yield _furnished(node)
            assert "eyJ" not in node.text
            assert _told(node.data_dir, b"tdk_") == []


def _furnished(node: Node) -> Office:
    bare = Office(node, "", "", "")
    with bare.operator() as client:
        stub = client.stubs.organizations
        organization = stub.ListOrganizations(pb.ListOrganizationsRequest()).organizations[0].name
        team = stub.ListTeams(pb.ListTeamsRequest(parent=organization)).teams[0].name
        names = {}
        for who, role in (
            ("lead", organization_pb2.MEMBER_ROLE_ADMIN),
            ("member", organization_pb2.MEMBER_ROLE_MEMBER),
        ):
            member = organization_pb2.Member(
                email=f"{who}@example.com", display_name=f"{who} {HOSTILE}", roles=[role], teams=[team]
            )
            names[who] = stub.CreateMember(pb.CreateMemberRequest(parent=organization, member=member)).member.name
    return Office(node, organization, team, names["member"])


def _told(folder: Path, word: bytes) -> list[str]:
    """Return the files of a data directory that hold a whole secret."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(part[:49].isalnum() and len(part) >= 49 for part in content.split(word)[1:]):
            found.append(path.name)
    return found


class Person:
    """Somebody at a browser. Whatever it complains of on any page is kept."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.page = reader.page
        self.found: list[str] = []

    async def sign_in(self, who: str) -> None:
        """Sign in at the provider, from the console's own start."""
        await self.reader.open(HOME)
        await self.page.fill("input[name=login]", who)
        await self.page.fill("input[name=password]", "any")
        await self.page.click("button[type=submit]")
        await self.page.click("button[type=submit]")
        await self.page.wait_for_url(f"{self.reader.origin}{HOME}/**")
        # What the provider's own pages do is not ours.
        self.reader.complaints.clear()

    async def open(self, path: str, status: int = 200) -> str:
        """Open a page that must have this status; return its text."""
        answer = await self.page.goto(self.reader.origin + path, wait_until="load")
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]
        problems = await self.reader.problems()
        # The browser gives the icon up where somebody leaves a page at once.
        problems = [one for one in problems if not (one.startswith("failed:") and "favicon" in one)]
        self.found += [f"{path}: {one}" for one in problems if status == 200 or f"{status}" not in one]
        self.reader.complaints.clear()
        return await self.text()

    async def text(self) -> str:
        """Return what the page says."""
        return await self.page.inner_text("main")

    async def submit(self, name: str, **fields: str) -> str:
        """Fill in the page's form and press a button; return what the next page says."""
        for field, value in fields.items():
            place = self.page.locator(f"main form [name={field}]")
            if await place.evaluate("(one) => one.tagName") == "SELECT":
                await place.select_option(value)
            else:
                await place.fill(value)
        await self.page.get_by_role("button", name=name).click()
        await self.page.wait_for_load_state("load")
        return await self.text()

    async def secret(self) -> str:
        """Take the secret from the page that shows it, and see that it is nowhere else in the browser."""
        shown = (await self.page.inner_text("#secret")).strip()
        assert shown not in self.page.url
        assert await self.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        await self.page.get_by_role("link", name="Done").click()
        await self.page.wait_for_load_state("load")
        assert shown not in await self.page.content()
        # The way back asks to send the form again: nothing of the page was kept.
        with pytest.raises(BrowserError, match="ERR_CACHE_MISS"):
            await self.page.go_back()
        await self.page.wait_for_url("chrome-error://**")
        self.reader.complaints.clear()
        return shown


@contextlib.asynccontextmanager
async def at_browser(office: Office, who: str, **options: Any) -> AsyncIterator[Person]:
    """Somebody who has signed in; their browser must have complained of nothing."""
    async with reading(office.origin, **options) as reader:
        person = Person(reader)
        await person.sign_in(who)
        yield person
        assert person.found == []


async def test_a_key_from_the_wish_for_it_to_its_end(office: Office) -> None:
    """Asked for, granted, revealed once, used, rotated and revoked; usage, limits, trail and record tell of it."""
    base = office.base
    async with at_browser(office, "member") as member, at_browser(office, "lead") as lead:
        await member.open(f"{base}/requests/new")
        told = await member.submit(
            "Ask for the key", purpose=HOSTILE, team=office.team, metric="1", limit="3", window="3"
        )
        assert "Your request is made" in told
        await lead.open(f"{base}/requests?state=1")
        await lead.page.get_by_role("link", name="Decide").click()
        assert "is granted" in await lead.submit("Grant as written here", reason="It is for a good purpose.")

        await member.open(f"{base}/requests")
        await member.page.get_by_role("link", name="Reveal the secret").click()
        await member.submit("Reveal the secret")
        key_path = str(await member.page.get_by_role("link", name="Done").get_attribute("href"))
        secret = await member.secret()

        status, request_id = office.call(secret)
        assert status == 200
        await _until(member, f"{base}/calls", request_id)
        shown = await member.open(key_path)
        assert "3 requests a day" in shown
        assert "33 % used" in shown
        assert HOSTILE in shown
        record = await member.open(f"{HOME}/lookup?id={request_id}")
        assert "demo-echo" in record
        assert "Succeeded" in record
        assert HOSTILE in await member.open(f"{base}/usage?by=key")

        await member.open(f"{key_path}/rotate")
        await member.submit("Rotate and show", overlap="0")
        rotated = await member.secret()
        assert office.call(secret) == (401, "key_expired")
        assert office.call(rotated)[0] == 200

        assert "ends for good" in await member.open(f"{key_path}/revoke")
        assert "is revoked" in await member.submit("Revoke the key", reason="The purpose is served.")
        await asyncio.sleep(1)
        assert office.call(rotated) == (401, "key_revoked")

        trail = await lead.open(f"{base}/audit")
        for action in ("key_request.create", "key_request.approve", "key.reveal", "key.rotate", "key.revoke"):
            assert action in trail
        assert secret not in await lead.page.content()
        assert "The chain is whole" in await lead.open(f"{base}/audit/verify")


async def _until(person: Person, path: str, word: str) -> None:
    """Open a page again until it tells of what was just written behind a call."""
    for _ in range(50):
        if word in await person.open(path):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{path} does not tell of {word}")


async def test_each_role_sees_what_it_may(office: Office) -> None:
    """What it may not is not there: 404, whether or not such a page exists."""
    platform = ("organizations", "providers", "models", "incidents", "nodes", "audit", "audit/verify", "providers/new")
    own = ("overview", "keys", "requests", "quota", "usage", "calls", "teams")
    governing = ("members", "audit", "audit/verify", "teams/new", "members/new", f"quota/change?of={office.team}")
    elsewhere = f"{HOME}/org_{'0' * 26}/keys"
    async with at_browser(office, "member") as member:
        for path in own:
            await member.open(f"{office.base}/{path}")
        for path in (*(f"{office.base}/{one}" for one in governing), *(f"{HOME}/{one}" for one in platform), elsewhere):
            await member.open(path, 404)
    async with at_browser(office, "lead") as lead:
        for path in (*own, *governing):
            await lead.open(f"{office.base}/{path}")
        for path in (*(f"{HOME}/{one}" for one in platform), f"{office.base}/suspend", elsewhere):
            await lead.open(path, 404)
    async with at_browser(office, "ada") as admin:
        for path in (*(f"{HOME}/{one}" for one in platform), *(f"{office.base}/{one}" for one in (*own, *governing))):
            await admin.open(path)


async def test_a_change_of_limits_is_looked_at_first(office: Office) -> None:
    """A preview changes nothing; what is wrong in the form is told at its field; a form of elsewhere is refused."""
    path = f"{office.base}/quota/change?of={office.team}"
    async with at_browser(office, "lead") as lead:
        await lead.open(path)
        told = await lead.submit("Show what it would do", metric0="5", limit0="lots", window0="4")
        assert "invalid_request" in told
        assert "req_" in told
        assert await lead.page.locator("[aria-invalid=true]").get_attribute("name") == "limit0"
        lead.reader.complaints.clear()
        assert "$2.50 a month" in await lead.submit("Show what it would do", limit0="2.5")
        assert "$2.50" not in await lead.open(f"{office.base}/quota?kind=3")
        await lead.open(path)
        await lead.submit("Show what it would do", metric0="5", limit0="2.5", window0="4")
        assert "are changed" in await lead.submit("Change the limits")
        await lead.open(path)
        await lead.page.evaluate("document.querySelector('main [name=csrf]').value = 'forged'")
        assert "not made for your session" in await lead.submit("Show what it would do")
        lead.reader.complaints.clear()


async def test_a_session_ends_with_its_person(office: Office) -> None:
    """Signed out at once, and out within a second of being suspended; the same cookie opens nothing afterwards."""
    async with at_browser(office, "lead") as lead:
        before = await _session_of(lead)
        await lead.open(f"{HOME}/sign-out")
        await lead.submit("Sign out")
        await lead.reader.context.add_cookies([{**before, "url": office.origin}])  # type: ignore[typeddict-item]
        lead.reader.complaints.clear()
        answer = await lead.reader.context.request.get(f"{office.origin}{office.base}/keys", max_redirects=0)
        assert (answer.status, answer.headers["location"][:16]) == (303, "/console/sign-in")
    async with at_browser(office, "member") as member:
        await member.open(f"{office.base}/keys")
        with office.operator() as client:
            stub = client.stubs.organizations
            stub.SuspendMember(pb.SuspendMemberRequest(name=office.member, reason="to see the session end"))
            await asyncio.sleep(1)
            answer = await member.reader.context.request.get(f"{office.origin}{office.base}/keys", max_redirects=0)
            assert answer.status == 303
            stub.ResumeMember(pb.ResumeMemberRequest(name=office.member))


async def test_a_fresh_sign_in_is_one_at_the_provider(office: Office) -> None:
    """It asks for the person anew, leads back to the page, and leaves the session before it worth nothing."""
    async with at_browser(office, "member") as member:
        before = await _session_of(member)
        await member.page.goto(f"{office.origin}{HOME}/sign-in?fresh=yes&next=/console/me")
        assert await member.page.locator("input[name=login]").count() == 1
        await member.page.fill("input[name=login]", "member")
        await member.page.fill("input[name=password]", "any")
        while HOME not in member.page.url:
            await member.page.click("button[type=submit]")
            await member.page.wait_for_load_state("load")
        assert member.page.url == f"{office.origin}{HOME}/me"
        after = await _session_of(member)
        assert after["value"] != before["value"]
        member.reader.complaints.clear()
        await member.reader.context.clear_cookies()
        await member.reader.context.add_cookies([{**before, "url": office.origin}])  # type: ignore[typeddict-item]
        answer = await member.reader.context.request.get(f"{office.origin}{HOME}/me", max_redirects=0)
        assert answer.status == 303


async def _session_of(person: Person) -> dict[str, str]:
    """Return name and value of the session's cookie."""
    cookies = await person.reader.context.cookies()
    kept = next(one for one in cookies if "session" in one.get("name", ""))
    return {"name": kept.get("name", ""), "value": kept.get("value", "")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_clean_on_a_phone_too(office: Office, scheme: str) -> None:
    """Nothing for axe, nothing too wide, in either theme; hostile names are shown as they are."""
    found: list[str] = []
    pages = ("overview", "keys", "usage", "members", "audit", "requests/new", f"quota/change?of={office.team}")
    async with at_browser(office, "lead", width=PHONE, scheme=scheme) as lead:
        for path in pages:
            text = await lead.open(f"{office.base}/{path}")
            found += [f"{path}: {one}" for one in await lead.reader.axe()]
            assert path != "members" or HOSTILE in text
    assert found == []
