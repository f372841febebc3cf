"""A real Chromium under test: what its console, its content policy and its network say, and what axe finds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

from dev import browser as chromium

ROOT = Path(__file__).resolve().parents[1]
AXE = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
PHONE = 360
DESK = 1440
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@dataclass
class Reader:
    """One browser window, and everything that went wrong in it."""

    context: BrowserContext
    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Go to a path and wait until it is loaded."""
        await self.page.goto(self.origin + path, wait_until="load")

    async def problems(self) -> list[str]:
        """Return what console, policy and network complained of, and whether the page is wider than its window."""
        found = list(self.complaints)
        found += [f"policy: {one}" for one in await self.page.evaluate("window.violations")]
        if await self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append("the page is wider than the window")
        return found

    async def axe(self) -> list[str]:
        """Return what axe finds: the rule, how bad it is, and where."""
        await self.page.evaluate(AXE)
        result: Any = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['impact']}): {node['target']} {node['failureSummary']}"
            for one in result["violations"]
            for node in one["nodes"]
        ]


@contextlib.asynccontextmanager
async def reading(
    origin: str, *, width: int = DESK, scheme: str = "light", scripts: bool = True
) -> AsyncIterator[Reader]:
    """Open a window of this width, in a light or dark scheme, with or without scripts. It may call `origin` only."""
    program = chromium.find()
    if program is None:
        pytest.fail("There is no Chromium; `make browser` installs one.")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            context = await started.new_context(
                viewport={"width": width, "height": 900},
                color_scheme="dark" if scheme == "dark" else "light",
                java_script_enabled=scripts,
                reduced_motion="reduce",
            )
            await context.add_init_script(_WATCH)
            page = await context.new_page()
            reader = Reader(context, page, origin)
            page.on(
                "console", lambda told: reader.complaints.append(f"console: {told.text}") if told.type in _BAD else None
            )
            page.on("pageerror", lambda error: reader.complaints.append(f"script: {error}"))
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith((origin, "data:", "blob:"))
                    else reader.complaints.append(f"network: {request.url}")
                ),
            )
            page.on(
                "requestfailed",
                lambda request: (
                    reader.complaints.append(f"failed: {request.url}") if "/events" not in request.url else None
                ),
            )
            yield reader
        finally:
            await started.close()


_BAD = frozenset({"error", "warning"})
