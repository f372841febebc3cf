"""What the pages tell, section by section: the facts that people come for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from tests.facade.pages.site_rig import Page, Site, gateway_of, model, open_site

TOLD: list[tuple[str, str, tuple[str, ...]]] = [
    ("/", "what", ("one address for every model", "read", "audit")),
    ("/", "credentials", ("tokendance api key", "tokendance id session", "provider key", "never for", "/v1")),
    ("/", "credentials", ("controlled runtime components",)),
    ("/", "start", ("tdk_", "access token", "base url", "list of models", "secret store", "frontend", "request id")),
    ("/", "environment", ("tokendance_api_key", "its name only, never a value")),
    ("/", "environment", ("tokendance_base_url", "internal listeners stay inside")),
    ("/", "environment", ("tokendance_model", "your-model")),
    ("/", "environment", ("tokendance_request_id", "what a provider answered may not")),
    ("/", "verify", ("costs nothing", "before an agent", "curl.exe")),
    ("/", "agents", ("agenthub", "hub session is none", "runtime adapter")),
    ("/", "agents", ("codex", "claude code", "issue, a screenshot or a log")),
    ("/", "agents", ("tokendancecode", "experiment", "no promise yet")),
    ("/", "agents", ("ci and automation", "protected secret", "no raw answers")),
    ("/", "support", ("http status", "error code", "request id", "model")),
    ("/", "support", ("sdk with its version", "base url")),
    ("/", "support", ("never the key itself", "authorization")),
    ("/", "support", ("which client it is", "without anything confidential")),
    ("/keys", "access", ("issues no keys", "controlled issuance", "purpose", "team", "quota")),
    ("/keys", "principles", ("purpose", "owner", "quota", "rotates")),
    ("/keys", "principles", ("secret store", "environment", "protected secrets")),
    ("/keys", "principles", ("localstorage", "sessionstorage", "public repository", "screenshot")),
    ("/keys", "rotation", ("overlap", "overdue")),
    ("/keys", "leak", ("rotate first", "logs", "screenshots", "does not make a key secret")),
    ("/keys", "quota", ("/v1/quota", "/v1/usage", "/v1/requests")),
    ("/keys", "ownership", ("team", "organization", "audit trail")),
    ("/keys", "signing-in", ("tokendance id", "no credential for models")),
    ("/limits", "windows", ("minute", "hour", "day", "month", "utc", "reset_at")),
    ("/limits", "soft", ("hard", "soft", "warns")),
    ("/limits", "headers", ("x-ratelimit-limit-requests", "x-ratelimit-reset-tokens", "retry-after")),
    ("/limits", "refusals", ("quota_exceeded", "budget_exceeded", "rate_limit_exceeded", "quota_held")),
    ("/status", "words", ("operational", "degraded", "partial outage", "major outage", "maintenance", "what to do")),
]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site with the usual settings."""
    async with open_site(gateway_of(models=[model("fast", aliases=["quick"], context_window=8192)])) as opened:
        yield opened


async def test_each_section_tells_what_people_come_for(site: Site) -> None:
    """In our words; a section that loses one of these facts breaks a promise."""
    missing = []
    for path, section, facts in TOLD:
        page = await site.page(path)
        _, _, rest = page.partition(f'<h2 id="{section}"')
        text = " ".join("".join(Page(re.split(r"<h2 ", rest)[0]).words).lower().split())
        missing += [f"{path}#{section}: {fact}" for fact in facts if fact not in text]
    assert missing == []


async def test_the_list_of_models_tells_names_aliases_windows_and_availability(site: Site) -> None:
    """What the page promised is there."""
    text = "".join(Page(await site.page("/models")).words)
    for fact in ("fast", "quick", "8,192 tokens", "not published"):
        assert fact in text


async def test_no_page_shows_a_key_or_an_internal_model(site: Site) -> None:
    """Examples name variables, and a model that is none."""
    home = await site.page("/")
    assert "your-model" in home
    assert re.search(r"tdk_[0-9A-Za-z]", home) is None
