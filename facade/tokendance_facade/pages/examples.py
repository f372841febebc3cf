"""The examples of the quickstart: files that tests run as they are, coloured a little for reading."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup, escape

LANGUAGES = (("sh", "curl"), ("ps1", "PowerShell"), ("py", "Python"), ("mjs", "Node"))
"""The languages: the ending of the files, and what readers call them."""
VARIANTS = (("plain", "One answer"), ("stream", "Streaming"), ("tools", "Tools"), ("schema", "JSON Schema"))
"""What each language has an example of: the stem of the files, and what readers call it."""

_TOKEN = re.compile(
    r"(?P<c>(?:^|(?<=\s))\#[^\n]*)"
    r"|(?P<s>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<k>(?<![\w.$-])(?:async|await|const|create|else|export|for|from|if|import|in|let|new|of|or)(?![\w.-]))",
    re.MULTILINE,
)


class Example(NamedTuple):
    """One file: its text as it stands, and the same marked up."""

    language: str
    variant: str
    text: str
    html: Markup


@cache
def example(variant: str, language: str) -> Example:
    """Return the example of a variant in a language, by the names of its file. Raises FileNotFoundError."""
    text = files("tokendance_facade.pages").joinpath("examples", f"{variant}.{language}").read_text(encoding="utf-8")
    return Example(language, variant, text.rstrip("\n"), colour(text.rstrip("\n")))


def colour(text: str) -> Markup:
    """Return code as HTML with its comments, texts and words of the language in elements of a class."""
    parts: list[Markup] = []
    place = 0
    for match in _TOKEN.finditer(text):
        parts.append(escape(text[place : match.start()]))
        parts.append(Markup('<span class="{}">{}</span>').format(match.lastgroup, match[0]))
        place = match.end()
    parts.append(escape(text[place:]))
    return Markup("").join(parts)
