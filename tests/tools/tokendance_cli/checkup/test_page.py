"""The page of what a checkup says: every sentence of the code is on it, and every sentence on it is the code's."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tokendance_cli.checkup
import tokendance_cli.reach

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "operations" / "doctor.md"
SOURCES = [
    *sorted(Path(tokendance_cli.checkup.__file__).parent.glob("*.py")),
    Path(tokendance_cli.reach.__file__),
]
# Said where all is well, or of what was not asked.
WELL = {
    "The gateway accepts the key.",
    "The key may call …, … among them.",
    "The key may call …; TOKENDANCE_MODEL is not set, so … is tried.",
    "… answers (… ms). Cost: one request, ….",
    "The first event came after … ms, the end after … ms. Cost: one request, ….",
    "… holds a TokenDance API key, and its checksum holds.",
    "A TokenDance Gateway answers (… ms).",
    "The clock of this machine agrees with the gateway's.",
    "Not asked: ….",
}
# Put together from sentences of other places: the credential's own form, the error table, the proxy behind a
# reason; and what a model is asked.
PARTS = {"…: … …", "Check first: …", "…, by way of the proxy …", "… tokens in, … out", "… and … more", "Say OK."}
# What the page says where the code has no words of its own.
OF_THE_PAGE = {
    "By the reason, as below.",
    "Nothing: a proxy has taken it away.",
}


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    return None


def _sentences() -> Iterator[str]:
    """Everything that the code may say: texts of some words which are no docstrings, no notes of why."""
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
        aside = {
            id(one.body[0].value) for one in nodes if isinstance(one, documented) and isinstance(one.body[0], ast.Expr)
        }
        for one in nodes:
            if isinstance(one, ast.JoinedStr):
                aside |= {id(part) for part in ast.walk(one) if part is not one}
            # What a check could not read, and why one was skipped: inner words.
            if isinstance(one, ast.Raise) or (isinstance(one, ast.Call) and getattr(one.func, "id", "") == "_skip"):
                aside |= {id(part) for part in ast.walk(one) if getattr(one, "exc", None) is None or _is_inner(one)}
        for one in nodes:
            text = None if id(one) in aside else _template(one)
            if text and (len(text.split()) > 2 or (text.endswith(".") and " " in text)):
                yield text.removesuffix(" …") if text.endswith(". …") else text


def _is_inner(one: ast.AST) -> bool:
    raised = getattr(one, "exc", None)
    return isinstance(raised, ast.Call) and getattr(raised.func, "id", "") in {"TypeError", "ValueError"}


def _page() -> str:
    return " ".join(PAGE.read_text(encoding="utf-8").split())


def test_every_sentence_of_the_code_is_on_the_page() -> None:
    """Also what to do about it; what is said where all is well is left out."""
    said = set(_sentences())
    assert said >= WELL | PARTS
    assert not [one for one in sorted(said - WELL - PARTS) if one not in _page()]


def test_every_row_of_the_page_is_of_the_code() -> None:
    """Nothing there is out of date."""
    said = set(_sentences())
    table = r"^\| (?!it says|the reason|-)(.+?) \| (.+?) \|$"
    rows = re.findall(table, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 35
    for told, do in rows:
        reason = re.sub(r"(\(…\)), .*", r"\1", told)
        assert reason in said or told in said, told
        assert do in OF_THE_PAGE or any(one in do for one in said), do
