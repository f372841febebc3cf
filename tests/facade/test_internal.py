"""Metrics and health on the internal listener."""

from __future__ import annotations

from tests.facade.rig import KEY, Rig, open_rig


async def test_health_and_metrics(rig: Rig) -> None:
    """Alive, ready, and Prometheus' text."""
    assert (await rig.http.get(f"{rig.facade.internal_url}/livez")).status == 200
    assert (await rig.http.get(f"{rig.facade.internal_url}/readyz")).status == 200
    answer = await rig.http.get(f"{rig.facade.internal_url}/metrics", headers={"Authorization": "Bearer scraper"})
    assert answer.status == 200
    assert "tokendance_facade_refusals" in await answer.text()


async def test_not_ready_says_why() -> None:
    """503 with reasons, while the process is alive."""
    async with open_rig(ready=False) as rig:
        answer = await rig.http.get(f"{rig.facade.internal_url}/readyz")
        assert answer.status == 503
        assert (await answer.json())["reasons"]
        assert (await rig.http.get(f"{rig.facade.internal_url}/livez")).status == 200


async def test_an_api_key_has_no_meaning_here(rig: Rig) -> None:
    """It is refused with an error that says what it is."""
    answer = await rig.http.get(f"{rig.facade.internal_url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status == 401
    assert (await answer.json())["error"]["code"] == "api_key_not_accepted"


async def test_unknown_paths_are_404(rig: Rig) -> None:
    """Model paths among them: this is not the public listener."""
    for path in ("/v1/chat/completions", "/v1/models", "/consoles"):
        answer = await rig.http.get(rig.facade.internal_url + path)
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "not_found"


async def test_the_start_leads_to_the_console(rig: Rig) -> None:
    """For people who type the address; machines have paths of their own."""
    answer = await rig.http.get(rig.facade.internal_url + "/", allow_redirects=False)
    assert (answer.status, answer.headers["location"]) == (303, "/console")
