"""Renders docs/clients/ from the configurations of clients, so that pages say what the command writes and tests run."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokendance.client_configs import CLIENTS, ClientConfig, Values, fill, render

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "clients"
EXAMPLE = Values("https://gateway.example.com/v1", "your-model", "gateway.example.com:50051")
"""The gateway of the pages; the command puts in yours."""
MARK = "<!-- Written by tools/dev/client_docs.py from clients/python/tokendance/client_configs; change it there. -->"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page."""
    yield "README.md", _index()
    for client in CLIENTS:
        yield f"{client.name}.md", _page(client)


def _index() -> str:
    rows = "\n".join(
        f"| [{one.title}]({one.name}.md) | `tokendance config {one.name}` | {_ran(one)} |" for one in CLIENTS
    )
    return f"""\
# Clients

{MARK}

`tokendance config CLIENT` prints the working configuration of a client for your gateway; with `--write` it asks, and
writes the file. The base URL is that of `--base-url` or `TOKENDANCE_BASE_URL`, the model that of `--model` or
`TOKENDANCE_MODEL`. No configuration holds a key: each reads it from the environment.

| client | command | |
|---|---|---|
{rows}

More: [an adapter of AgentHub over gRPC](agenthub-adapter.md), and what [Codex](agents-and-errors-codex.md) and
[Claude Code](agents-and-errors-claude-code.md) do with each error of the gateway.
"""


def _page(client: ClientConfig) -> str:
    parts = [f"# {client.title}", MARK, _wrapped(fill(client.intro, EXAMPLE))]
    parts.append(f"`tokendance config {client.name}` prints this for your gateway, `--write` writes it.")
    parts += [f"`{one.path}`:\n\n```{one.language}\n{one.text.rstrip()}\n```" for one in render(client, EXAMPLE)]
    if client.run:
        parts.append(f"Then:\n\n```sh\n{fill(client.run, EXAMPLE)}\n```")
    parts.append("\n".join(_wrapped(note, "- ") for note in client.notes))
    parts.append(_wrapped(" ".join(filter(None, (_ran(client), client.more)))))
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(
        text,
        118,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _ran(client: ClientConfig) -> str:
    if client.tested:
        return "Our tests run exactly this."
    return "Written by its documentation; our tests check the file, and do not run the client."


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or with --check tell whether they are as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    check = parser.parse_args(arguments).check
    stale = []
    for name, text in pages():
        page = FOLDER / name
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"docs/clients is out of date: {', '.join(stale)}; run `make gen`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
