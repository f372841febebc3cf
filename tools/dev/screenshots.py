"""Takes the pictures of the README from a node that `tokendance demo-data` has filled: of the console and the site."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from dev import browser

WIDTH, HEIGHT = 1280, 800
CONSOLE = {"overview": "overview", "usage": "usage?by=team", "keys": "keys"}
SITE = {"status": "/status", "quickstart": "/"}


def main(arguments: list[str] | None = None) -> int:
    """Write one PNG a page; return 1 where there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default=".tokendance", help="the node's data directory")
    parser.add_argument("--internal", default="http://127.0.0.1:8081", help="its internal listener")
    parser.add_argument("--http", default="http://127.0.0.1:8080", help="its public listener")
    parser.add_argument("--organization", default="Northwind Research", help="whose pages are taken")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"), help="the folder to write to")
    options = parser.parse_args(arguments)
    program = browser.find()
    if program is None:
        print("There is no Chromium; `make browser` installs one.", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(_link(options.data_dir, options.internal))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name=options.organization).first.click()
        page.wait_for_url("**/overview")
        base = page.url.rpartition("/")[0]
        for name, path in CONSOLE.items():
            _take(page, f"{base}/{path}", options.output / f"console-{name}.png")
        for name, path in SITE.items():
            _take(page, options.http + path, options.output / f"site-{name}.png")
        started.close()
    return 0


def _link(data_dir: str, internal: str) -> str:
    command = [str(Path(sys.executable).with_name("tokendance")), "--data-dir", data_dir, "console", "--url", internal]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _take(page: Page, url: str, file: Path) -> None:
    page.goto(url, wait_until="load")
    page.screenshot(path=file)
    print(file)


if __name__ == "__main__":
    sys.exit(main())
