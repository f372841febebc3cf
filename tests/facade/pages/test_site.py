"""The public pages: complete, alone, alive, and harmless whatever stands in the catalogue."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.facade.pages.site_rig import HOSTILE, Page, Site, gateway_of, model, open_site

from tokendance.client_configs import CLIENTS, Values, render
from tokendance.errors import table
from tokendance.gateway.v1 import status_service_pb2 as states

PAGES = (
    *("/", "/keys", "/limits", "/models", "/errors", "/status", "/reference", "/reference/grpc"),
    *("/reference/grpc/keys_service", "/reference/grpc/completion"),
)
FILES = ("/openapi.json", "/llms.txt", "/robots.txt", "/favicon.ico")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site with the usual settings."""
    async with open_site() as opened:
        yield opened


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_html_under_a_policy_that_allows_nothing_inline(site: Site, path: str) -> None:
    """No page loads anything of others, and none can be framed."""
    answer = await site.get(path)
    assert answer.status == 200
    assert answer.content_type == "text/html"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_holds_no_code_and_loads_its_own_files_only(site: Site, path: str) -> None:
    """Scripts and styles come from this host under names of their content, and are all there."""
    page = Page(await site.page(path))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert tag != "style"
        assert tag != "script" or attributes["src"].startswith("/assets/")
    loaded = [*page.values("src"), *page.values("href", "link")]
    assert len(loaded) >= 3
    for address in loaded:
        file = await site.get(address)
        assert file.status == 200, address
        assert "immutable" in file.headers["cache-control"]


async def test_clients_are_configured_for_this_gateway_from_the_source_of_the_command() -> None:
    """Every file of every client, with the base URL of this gateway and no key."""
    async with open_site(public_base_url="https://gateway.example/v1") as site:
        page = Page(await site.page("/"))
        text = "".join(page.words)
        for client in CLIENTS:
            if client.name in {"python", "node"}:
                continue
            assert f"client-{client.name}" in set(page.values("id"))
            for file in render(client, Values("https://gateway.example/v1", "your-model", "gateway.internal:50051")):
                assert file.text in text
        assert "<<" not in text.replace("<<JSON", "")


@pytest.mark.parametrize("path", PAGES)
async def test_every_id_of_a_page_is_there_once(site: Site, path: str) -> None:
    """Otherwise links and labels lead nowhere."""
    ids = list(Page(await site.page(path)).values("id"))
    assert sorted(ids) == sorted(set(ids))


async def test_every_link_of_the_site_leads_somewhere(site: Site) -> None:
    """Pages and places on them; the only addresses elsewhere are those that operators give."""
    places: dict[str, set[str]] = {}
    wanted = {"/"}
    links: set[tuple[str, str]] = set()
    while wanted:
        path = wanted.pop()
        answer = await site.get(path)
        assert answer.status == 200, path
        if answer.content_type != "text/html":
            places[path] = set()
            continue
        page = Page(await answer.text())
        places[path] = set(page.values("id"))
        for href in page.values("href", "a"):
            target, _, fragment = href.partition("#")
            assert not target or target.startswith("/"), href
            links.add((target or path, fragment))
        wanted |= {target for target, _ in links} - places.keys()
    assert {*PAGES, "/openapi.json", "/llms.txt", "/v1/status"} <= places.keys()
    assert [(path, place) for path, place in links if place and place not in places[path]] == []


@pytest.mark.parametrize("path", [*PAGES, *FILES])
async def test_who_has_a_page_already_does_not_get_it_again(site: Site, path: str) -> None:
    """The tag of its content is enough, also one that a cache has marked as weak."""
    first = await site.get(path)
    tag = first.headers["etag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}'):
        again = await site.get(path, If_None_Match=sent)
        assert again.status == 304
        assert await again.read() == b""
        assert again.headers["etag"] == tag
    assert (await site.get(path, If_None_Match='"other"')).status == 200


async def test_pages_travel_compressed_to_who_takes_that(site: Site) -> None:
    """With a tag of their own, so that no cache takes one form for the other."""
    plain = await site.get("/", Accept_Encoding="identity")
    small = await site.get("/", Accept_Encoding="gzip, br")
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert await small.text() == await plain.text()
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert plain.headers["etag"] != small.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]
    again = await site.get("/", Accept_Encoding="gzip", If_None_Match=small.headers["etag"])
    assert again.status == 304


async def test_operators_say_what_the_site_is_called_and_where_it_is() -> None:
    """Brand, base URL, console and support come from the configuration."""
    async with open_site(
        public_base_url="https://gateway.example/v1",
        site={"brand": "Acme <Gate>", "console_url": "https://console.example/", "support": "Ask in the hall."},
    ) as site:
        home = await site.page("/")
        assert "Acme &lt;Gate&gt;" in home
        assert "TokenDance Gateway" not in home.partition('id="agents"')[0]
        assert "https://gateway.example/v1" in home
        assert "127.0.0.1" not in home
        assert "Ask in the hall." in home
        assert 'href="https://console.example/"' in await site.page("/keys")
        assert "https://gateway.example/errors" in await site.page("/llms.txt")


async def test_every_code_of_the_error_table_has_its_place(site: Site) -> None:
    """Error bodies lead there."""
    page = await site.page("/errors")
    places = set(Page(page).values("id"))
    for _, spec in table():
        assert spec.code in places
        assert spec.check_first.split("`")[0].replace("'", "&#39;")[:40] in page


async def test_errors_lead_to_their_row() -> None:
    """Relative where nobody said how the gateway is called, absolute where they did; in body and header."""
    async with open_site() as site:
        answer = await site.get("/v1/models")
        assert answer.headers["link"] == '</errors#missing_api_key>; rel="help"'
        assert (await answer.json())["error"]["doc_url"] == "/errors#missing_api_key"
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"):
            refused = await site.http.post(site.facade.http_url + path, json={})
            assert refused.headers["link"] == '</errors#missing_api_key>; rel="help"'
    async with open_site(public_base_url="https://gateway.example/v1") as site:
        body = await (await site.get("/v1/models")).json()
        assert body["error"]["doc_url"] == "https://gateway.example/errors#missing_api_key"


async def test_a_browser_gets_a_page_for_what_is_not_there_and_a_program_gets_json(site: Site) -> None:
    """Both have the status, the code and the request id."""
    for_people = await site.get("/nothing", Accept="text/html,*/*")
    assert for_people.status == 404
    assert for_people.content_type == "text/html"
    assert for_people.headers["x-request-id"] in await for_people.text()
    assert for_people.headers["x-tokendance-error-code"] == "not_found"
    assert (await site.get("/nothing")).content_type == "application/json"
    assert (await site.get("/v1/nothing", Accept="text/html")).content_type == "application/json"


async def test_hostile_names_do_no_harm() -> None:
    """Names, notes and incidents are text, whatever they hold."""
    listed = [model(name, description=name, availability_note=name, aliases=[f"x{name}"]) for name in HOSTILE]
    snapshot = states.StatusSnapshot(state=states.SERVICE_STATE_DEGRADED, summary=HOSTILE[0])
    for name in HOSTILE:
        snapshot.models.add(model=name, state=states.SERVICE_STATE_DEGRADED, reason=name, provider_labels=[name])
    snapshot.incidents.add(title=HOSTILE[1], models=list(HOSTILE)).updates.add(message=HOSTILE[0])
    snapshot.maintenances.add(title=HOSTILE[0], description=HOSTILE[1])
    async with open_site(gateway_of(models=listed, status=snapshot)) as site:
        for path in ("/", "/models", "/status", "/models?q=%3Cscript%3E&serves=%22%3E%3Cb%3E"):
            text = await site.page(path)
            page = Page(text)
            assert [src for src in page.values("src") if not src.startswith("/assets/")] == []
            assert not [one for _, attributes in page.elements for one in attributes if one.startswith("on")]
            assert "{{ 7 * 7 }}" in text or path == "/" or "script" in path
            assert "49{%" not in text
            ids = list(page.values("id"))
            assert len(ids) == len(set(ids))


async def test_private_names_are_taken_out_of_what_operators_wrote() -> None:
    """As whole words, whatever their case; the pages' own words stay."""
    snapshot = states.StatusSnapshot(state=states.SERVICE_STATE_DEGRADED, summary="The mihomo hangs.")
    snapshot.incidents.add(title="PORTAL is slow").updates.add(message="Restarted newapi; portals are fine.")
    gateway = gateway_of(models=[model("fast", description="Served by MetAPI.", owned_by="mihomo")], status=snapshot)
    async with open_site(gateway) as site:
        text = (await site.page("/status") + await site.page("/models") + await site.page("/")).lower()
        for name in ("mihomo", "metapi", "newapi", "portal is"):
            assert name not in text
        assert "portals are fine" in text
        assert "a controlled runtime component" in text


async def test_the_status_tells_of_incidents_that_are_over() -> None:
    """With what was said of them; those that are open stand above."""
    over = states.Incident(title="Slow <answers>", state=states.SERVICE_STATE_DEGRADED, models=["fast"])
    over.start_time.FromSeconds(1_790_000_000)
    over.resolve_time.FromSeconds(1_790_003_600)
    over.updates.add(phase=states.INCIDENT_PHASE_RESOLVED, message="The mihomo was changed.")
    async with open_site(gateway_of(incidents=[over, states.Incident(title="Still open")])) as site:
        text = " ".join("".join(Page(await site.page("/status")).words).split())
        assert "Slow <answers> 2026-09-21 14:13 UTC to 2026-09-21 15:13 UTC" in text
        assert "The a controlled runtime component was changed." in text
        assert "Still open" not in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["fast", "slow"]),
        ("?q=quick", ["fast"]),
        ("?q=FAST+quick", ["fast"]),
        ("?q=acme", ["slow"]),
        ("?q=nothing", []),
        ("?serves=completions", ["fast", "slow"]),
        ("?serves=embeddings", []),
        ("?takes=text&q=slow", ["slow"]),
        ("?q=" + "x" * 5000, []),
        ("?" + "&".join(f"a{i}=1" for i in range(50)), ["fast", "slow"]),
    ],
)
async def test_models_are_searched_without_a_script(query: str, found: list[str]) -> None:
    """By name, alias, owner and what they serve."""
    async with open_site(gateway_of(models=[model("fast", aliases=["quick"]), model("slow", owned_by="acme")])) as site:
        page = Page(await site.page(f"/models{query}"))
        shown = [value.removeprefix("m-") for value in page.values("id", "li")]
        assert shown == found


async def test_many_models_come_in_pages() -> None:
    """A hundred each, whatever is searched for; a page that is not there is the nearest that is."""
    many = [model(f"acme/{number:03}") for number in range(250)] + [model("other")]
    async with open_site(gateway_of(models=many)) as site:
        seen: list[str] = []
        path = "/models?q=acme"
        while path:
            page = Page(await site.page(path))
            seen += page.values("id", "li")
            turns = [one for one in page.elements if one[1].get("rel") == "next"]
            path = turns[0][1]["href"] if turns else ""
        assert len(seen) == len(set(seen)) == 250
        for odd in ("0", "-1", "99", "x", "9" * 99):
            assert "other" in await site.page(f"/models?page={odd}&q=other")


async def test_pages_ask_without_a_credential_and_seldom(site: Site) -> None:
    """A crowd of readers is one question; nothing of a reader is told to the server."""
    await asyncio.gather(*(site.get(path) for path in ("/", "/models", "/status") for _ in range(20)))
    assert sorted(site.gateway.asked) == ["GetStatus", "ListIncidents", "ListModels"]
    assert not [told for told in site.gateway.metadata if "authorization" in told]


async def test_what_cannot_be_known_is_said_so() -> None:
    """Pages are there while the server is not."""
    async with open_site(gateway_of(unknown=True)) as site:
        assert "API unknown" in await site.page("/")
        assert "cannot be read right now" in await site.page("/models")
        assert "Not known right now" in await site.page("/status")


async def _events(answer: Any, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        line = (await asyncio.wait_for(answer.content.readline(), 5)).decode()
        assert line, "the stream ended"
        if line.startswith("data: "):
            found.append(line.removeprefix("data: ").strip())
    return found


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_open_pages_are_told_of_changes_by_one_watch(site: Site) -> None:
    """However many read; and when the last has left, nobody watches."""
    readers = [await site.get("/status/events") for _ in range(3)]
    for reader in readers:
        assert reader.content_type == "text/event-stream"
        await _events(reader, 1)
    await _until(lambda: site.gateway.watchers == 1)
    before = await site.page("/status")
    site.gateway.status.summary = "It is slow."
    site.gateway.changes.put_nowait(
        states.WatchStatusResponse(change=states.StatusChange(state=states.SERVICE_STATE_DEGRADED))
    )
    for reader in readers:
        await _events(reader, 1)
    assert "It is slow." not in before
    assert "It is slow." in await site.page("/status")
    for reader in readers:
        reader.close()
    await _until(lambda: site.gateway.watchers == 0)


async def test_open_pages_do_not_hold_up_the_end() -> None:
    """A facade that stops ends its streams at once."""
    async with open_site() as site:
        reader = await site.get("/status/events")
        await _events(reader, 1)
        async with asyncio.timeout(5):
            await site.facade.stop(30)
        assert (await reader.content.read())[-1:] in (b"", b"\n")


async def test_no_public_route_makes_or_reveals_a_key(site: Site) -> None:
    """What changes something is a model call, and nothing below these paths is about keys."""
    changing = {route.path for route in site.facade.public_routes if route.method != "GET"}
    assert changing <= {
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/responses/*"),
        *("/v1/responses/input_tokens", "/v1/messages", "/v1/messages/count_tokens", "/v1/messages/*"),
    }
    secret = re.compile(r"tdk_[0-9A-Za-z]{20,}")
    for path in (*PAGES, *FILES):
        assert secret.search(await (await site.get(path)).text()) is None
