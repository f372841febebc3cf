"""What pages are made of: tables, facts, forms and the like. One template shows them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from markupsafe import Markup

Option = tuple[str, str]
"""The value and the label of a choice."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One text: perhaps a link, a state with its colour, a number, or an RFC 3339 time in UTC."""

    text: str
    href: str = ""
    kind: Literal["", "state", "number", "mono", "time", "badge", "warn"] = ""
    state: str = ""
    hint: str = ""
    picture: Markup | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. `empty` is what is said where there are none; `next_href` leads to the next page of them."""

    block: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str
    advice: str = ""
    next_href: str = ""
    first_href: str = ""
    csv_href: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a label and what it is."""

    block: ClassVar[str] = "facts"
    title: str
    pairs: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form. `options` are those of a choice; `error` is what was wrong with what was sent."""

    name: str
    label: str
    kind: Literal[
        "text", "number", "email", "date", "datetime-local", "select", "checks", "check", "area", "password"
    ] = "text"
    value: str = ""
    chosen: Sequence[str] = ()
    options: Sequence[Option] = ()
    hint: str = ""
    required: bool = False
    error: str = ""
    longest: int = 0
    row: int = 0
    """Fields of one number above 0 stand side by side; they come in the order of their numbers."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form to a path of ours. `csrf` is its proof; a form with `method` get has none, and only looks things up."""

    block: ClassVar[str] = "form"
    action: str
    fields: Sequence[Field]
    submit: str
    csrf: str = ""
    method: Literal["post", "get"] = "post"
    danger: bool = False
    title: str = ""
    cancel: str = ""
    hidden: Sequence[tuple[str, str]] = ()
    second: Option | None = None
    """A second button: its value of the field `do`, and its label."""

    def refilled(self, values: Mapping[str, Sequence[str]], param: str, message: str) -> Form:
        """Return the form as it was sent, with an error at the field that it is about."""
        name = param.rpartition(".")[2].partition("[")[0]
        again = []
        for one in self.fields:
            sent = values.get(one.name, ())
            text = "" if one.kind == "password" else (sent[-1] if sent else "")
            error = message if name and one.name == name else ""
            again.append(replace(one, value=text, chosen=tuple(sent), error=error))
        return replace(self, fields=again)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and the same as a table."""

    block: ClassVar[str] = "chart"
    title: str
    picture: Markup
    table: Table


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence that stands out. `steps` are what follows from it."""

    block: ClassVar[str] = "notice"
    text: str
    kind: Literal["", "good", "warn", "bad"] = ""
    steps: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """A link to something that can be done."""

    label: str
    href: str
    kind: Literal["", "primary", "danger"] = ""


@dataclass(frozen=True, slots=True)
class Actions:
    """What can be done here."""

    block: ClassVar[str] = "actions"
    actions: Sequence[Action]


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that is shown this once."""

    block: ClassVar[str] = "secret"
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cards:
    """A few figures side by side: label, figure, and where it leads."""

    block: ClassVar[str] = "cards"
    cards: Sequence[tuple[str, str, str, str]]


Block = Table | Facts | Form | Chart | Notice | Actions | Secret | Cards


@dataclass(frozen=True, slots=True)
class View:
    """One page: what it is called, where it stands, and what it shows. `trail` are pairs of a path and a label."""

    title: str
    blocks: Sequence[Block] = ()
    lead: str = ""
    trail: Sequence[Option] = ()
