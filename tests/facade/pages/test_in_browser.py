"""The pages as a reader sees them: in a real browser, on a phone and at a desk, in light and dark."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect
from tests.browser import DESK, PHONE, reading
from tests.facade.pages.site_rig import HOSTILE, Site, gateway_of, model, open_site

from tokendance.gateway.v1 import status_service_pb2 as states

PAGES = ("/", "/keys", "/limits", "/models", "/errors", "/status", "/reference/grpc", "/models?q=nothing", "/nothing")
# Long, and the same part again and again: looked at once on a phone and once at a desk.
LONG = ("/reference", "/reference/grpc/status_service")


def troubled() -> states.StatusSnapshot:
    """A state with everything that a status page can show."""
    snapshot = states.StatusSnapshot(state=states.SERVICE_STATE_PARTIAL_OUTAGE, summary="Some calls of `slow` fail.")
    every = [one for one in states.ServiceState.values() if one]
    for place, name in enumerate(("fast", "slow", "acme/large", *HOSTILE)):
        one = snapshot.models.add(model=name, state=every[place % len(every)], provider_labels=["Acme"])
        one.reason = "Its provider answers slowly."
        one.success_permille = 987
        one.median_first_byte_latency.FromMilliseconds(812)
        one.state_start_time.FromSeconds(1_790_000_000)
        _history(one.history, place)
    _history(snapshot.history, 1)
    incident = snapshot.incidents.add(title="Slow answers", state=every[1], phase=states.INCIDENT_PHASE_IDENTIFIED)
    incident.start_time.FromSeconds(1_790_000_000)
    incident.models.append("slow")
    for phase, text in (
        (states.INCIDENT_PHASE_INVESTIGATING, "We look into it."),
        (states.INCIDENT_PHASE_IDENTIFIED, HOSTILE[0]),
    ):
        update = incident.updates.add(phase=phase, message=text)
        update.time.FromSeconds(1_790_000_600)
    work = snapshot.maintenances.add(title="New hardware", description="Short pauses.\nNothing else.")
    work.start_time.FromSeconds(1_790_100_000)
    work.end_time.FromSeconds(1_790_103_600)
    return snapshot


def _history(days: object, seed: int) -> None:
    begin = datetime(2026, 9, 1, tzinfo=UTC)
    for number in range(85):
        day = days.add()  # type: ignore[attr-defined]  # a repeated field
        day.start_time.FromDatetime(begin + timedelta(days=number))
        day.worst_state = 1 if (number * 7 + seed) % 11 else 1 + (number + seed) % 5
        day.degraded_duration.FromSeconds(600)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site with a catalogue of the good and of the ill, and a state with troubles."""
    listed = [
        model("fast", display_name="Fast", description="For short answers.", aliases=["quick"], context_window=128_000),
        *(model(name, description=name, aliases=[f"x{name}"], owned_by=name) for name in HOSTILE),
    ]
    state = troubled()
    over = states.Incident(title=HOSTILE[1], state=states.SERVICE_STATE_DEGRADED, updates=state.incidents[0].updates)
    over.resolve_time.FromSeconds(1_790_000_900)
    async with open_site(gateway_of(models=listed, status=state, incidents=[over])) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
async def test_pages_are_clean(site: Site, width: int, scheme: str) -> None:
    """Nothing serious for axe, nothing in the console, no breach of the policy, no other host, nothing too wide."""
    found: list[str] = []
    async with reading(site.facade.http_url, width=width, scheme=scheme) as reader:
        for path in (*PAGES, *(LONG if (width == PHONE) == (scheme == "dark") else ())):
            reader.complaints.clear()
            await reader.open(path)
            complaints = [one for one in await reader.problems() if path != "/nothing" or "404" not in one]
            found += [f"{path}: {one}" for one in (*complaints, *await reader.axe())]
            assert not await reader.page.evaluate("'alerted' in window")
    assert found == []


async def test_pages_work_without_scripts(site: Site) -> None:
    """Examples are chosen, models are searched and contents are shown by the page alone."""
    async with reading(site.facade.http_url, scripts=False) as reader:
        await reader.open("/")
        assert await reader.page.locator(".sample").count() == 16
        assert await reader.page.locator(".sample:visible").count() == 1
        await reader.page.locator("label[for=language-py]").click()
        await reader.page.locator("label[for=variant-tools]").click()
        assert await reader.page.locator("#example-tools-py").is_visible()
        assert await reader.page.locator(".sample:visible").count() == 1
        assert await reader.page.locator("[data-copy]:visible").count() == 0
        await reader.open("/models")
        await reader.page.get_by_label("Search").fill("quick")
        await reader.page.get_by_role("button", name="Show").click()
        assert await reader.page.locator(".model:visible").count() == 1
        assert reader.page.url.endswith("q=quick&serves=&takes=")


async def test_scripts_make_pages_handier(site: Site) -> None:
    """Code is copied by a button, models are filtered while somebody types, and keys alone do everything."""
    async with reading(site.facade.http_url) as reader:
        await reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await reader.open("/")
        await reader.page.locator('[data-copy="base-url"]').click()
        assert await reader.page.evaluate("navigator.clipboard.readText()") == f"{site.facade.http_url}/v1"
        await reader.page.keyboard.press("Home")
        await reader.open("/models")
        await reader.page.get_by_label("Search").press_sequentially("quick")
        await expect(reader.page.locator(".model:visible")).to_have_count(1)
        await reader.page.get_by_label("Search").fill("there is none")
        await reader.page.wait_for_selector("#none-found", state="visible")
        await reader.open("/keys")
        await reader.page.keyboard.press("Tab")
        assert await reader.page.evaluate("document.activeElement.className") == "skip"
        await reader.page.keyboard.press("Enter")
        assert await reader.page.evaluate("document.activeElement.id") == "main"
        assert await reader.problems() == []


async def test_an_open_status_page_follows_the_state(site: Site) -> None:
    """Without a reload, and said to those who listen to the page."""
    async with reading(site.facade.http_url) as reader:
        await reader.open("/status")
        assert "Some calls of" in await reader.page.locator("[data-spoken]").inner_text()
        await reader.page.wait_for_timeout(300)
        site.gateway.status.state = states.SERVICE_STATE_OPERATIONAL
        site.gateway.status.summary = "Everything works again."
        change = states.StatusChange(state=states.SERVICE_STATE_OPERATIONAL)
        site.gateway.changes.put_nowait(states.WatchStatusResponse(change=change))
        await expect(reader.page.locator("[data-spoken]")).to_contain_text("again")
        await expect(reader.page.locator("#announcer")).to_contain_text("again")
        assert await reader.problems() == []
