"""YAML to plain values, with the line and column of each: strict, so that nothing means what it does not look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong with a file, and where."""

    place: Place
    message: str

    def told(self, file: str) -> str:
        """Return it as compilers do."""
        return f"{file}:{self.place.line}:{self.place.column}: {self.message}"


class UnreadableError(Exception):
    """The file is no YAML document; `problem` tells what and where."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Document:
    """The values of a file, and where each stands: by its path, keys of a mapping apart from their values."""

    value: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    key_places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place_of(self, path: Path) -> Place:
        """Return where a value stands, or the nearest thing around it that is there."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))

    def place_of_key(self, path: Path) -> Place:
        """Return where the key of a value stands."""
        return self.key_places.get(path) or self.place_of(path)


def read_document(text: str) -> Document:
    """Return what a YAML text says. Raises UnreadableError; what is only odd is in the document's problems."""
    try:
        _refuse_references(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        told = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise UnreadableError(Problem(_place(mark), f"this is no YAML: {told}")) from exc
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position] if isinstance(exc.position, int) else ""
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UnreadableError(Problem(place, f"no YAML holds the character U+{exc.character:04X}")) from exc
    except RecursionError as exc:
        raise UnreadableError(Problem(Place(1, 1), "it is nested too deeply")) from exc
    document = Document()
    if root is not None:
        document.value = _value(root, (), document)
    return document


def _refuse_references(text: str) -> None:
    # A reader of the file should see what it says where it says it; and no few lines should become millions.
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            message = "references (*name) are not read here; write the value out"
            raise UnreadableError(Problem(_place(event.start_mark), message))


def _value(node: yaml.Node, path: Path, document: Document) -> Any:
    document.places[path] = _place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return dict(_items(node, path, document))
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, (*path, number), document) for number, one in enumerate(node.value)]
    return _scalar(node, document)


def _items(node: yaml.MappingNode, path: Path, document: Document) -> Iterator[tuple[str, Any]]:
    seen: dict[str, Place] = {}
    for key, value in node.value:
        place = _place(key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            document.problems.append(Problem(place, "a key must be a word"))
            continue
        name = str(key.value)
        if name in seen:
            document.problems.append(Problem(place, f"{name} stands here a second time, after line {seen[name].line}"))
            continue
        seen[name] = place
        document.key_places[*path, name] = place
        yield name, _value(value, (*path, name), document)


def _scalar(node: yaml.Node, document: Document) -> Any:
    text = str(node.value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        document.problems.append(Problem(_place(node.start_mark), "half a character stands here (a lone surrogate)"))
        return ""
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in ("true", "yes", "on")
        case "int" if _DECIMAL.fullmatch(text):
            return int(text)
        case "int":
            document.problems.append(_odd_number(node))
            return 0
        case "float":
            return _float(text, node, document)
        case "str" | "timestamp" | "value" | "merge":
            return text
        case _:
            document.problems.append(Problem(_place(node.start_mark), f"tags such as {node.tag} are not read here"))
            return text


def _float(text: str, node: yaml.Node, document: Document) -> float:
    try:
        return float(text)
    except ValueError:
        document.problems.append(_odd_number(node))
        return 0.0


def _odd_number(node: yaml.Node) -> Problem:
    message = f"{node.value} is a number in another notation; write it in decimal, or in quotes where it is text"
    return Problem(_place(node.start_mark), message)


def _place(mark: Any) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
