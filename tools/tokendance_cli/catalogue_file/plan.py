"""What would have to change on a node for it to be as a file says, in an order in which that works. Asks nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tokendance_cli.catalogue_file.entries import Entry
from tokendance_cli.catalogue_file.positions import Path, Problem
from tokendance_cli.catalogue_file.schema import Declared


class Action(StrEnum):
    """What is done to one entry."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that is not as it should be. `after` carries the etag of `before`, where there is one."""

    action: Action
    before: Entry | None
    after: Entry | None

    @property
    def entry(self) -> Entry:
        """The entry as it will be, or as it was where it is to go."""
        entry = self.after or self.before
        assert entry is not None  # a change is of something
        return entry

    @property
    def fields(self) -> list[str]:
        """The fields that differ, in their order."""
        before = self.before.fields if self.before else {}
        after = self.after.fields if self.after else {}
        return [name for name in after or before if before.get(name) != after.get(name)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change, in order; what only the node has; what makes it impossible; and all that the node has."""

    changes: Sequence[Change] = ()
    only_there: Sequence[Entry] = ()
    problems: Sequence[Problem] = field(default=())
    kept: Sequence[Entry] = field(default=(), compare=False, repr=False)


def make_plan(declared: Declared, wanted: Sequence[Entry], kept: Iterable[Entry], *, prune: bool) -> Plan:
    """Return the plan. With `prune`, what the file does not name is deleted; what is read only never is."""
    there = {(one.kind, one.name): one for one in kept}
    named = {(one.kind, one.name) for one in wanted}
    only_there = [one for key, one in there.items() if key not in named and one.is_managed and not one.read_only]
    gone = only_there if prune else []
    changes: list[Change] = []
    left = [one for key, one in there.items() if key not in named and one not in gone]
    problems = [*_without_provider(declared, wanted, there.values(), gone), *_names_taken(declared, wanted, left)]
    for one in wanted:
        before = there.get((one.kind, one.name))
        if before is None:
            changes.append(Change(Action.CREATE, None, one))
        elif before.fields != one.fields:
            if before.read_only:
                place = declared.document.place_of(one.path)
                message = f"{one.title} is named differently in the node's settings file, and can be changed only there"
                problems.append(Problem(place, message))
            after = dataclasses.replace(one, etag=before.etag, resource=before.resource)
            changes.append(Change(Action.UPDATE, before, after))
    changes += [Change(Action.DELETE, one, None) for one in gone]
    return Plan([*_in_order(changes, there.values())], only_there, sorted(problems), [*there.values()])


def _without_provider(
    declared: Declared, wanted: Sequence[Entry], there: Iterable[Entry], gone: Sequence[Entry]
) -> Iterator[Problem]:
    known = {one.name for one in (*wanted, *there) if one.kind == "provider"}
    leaving = {one.name for one in gone if one.kind == "provider"}
    for one in wanted:
        for number, provider in enumerate(one.providers):
            place = declared.document.place_of((*one.path, "routes", number, "provider"))
            if provider not in known:
                yield Problem(place, f"there is no provider {provider}, neither in the file nor on the node")
            elif provider in leaving:
                yield Problem(place, f"the provider {provider} is not in the file, and --prune would delete it")


def _names_taken(declared: Declared, wanted: Sequence[Entry], left: Sequence[Entry]) -> Iterator[Problem]:
    """Yield every name of a model that one has which the file does not name, and which stays."""
    holders = {name: one.name for one in left for name in one.claims}
    for one in wanted:
        if one.kind != "model":
            continue
        path: Path = one.path
        names: dict[str, Path] = {one.name: (*path, "name")} | {
            alias: (*path, "aliases", number) for number, alias in enumerate(one.fields.get("aliases", ()))
        }
        for name, where in names.items():
            if name in holders:
                message = f"the name {name} belongs to the model {holders[name]} of the node, which is not in the file"
                yield Problem(declared.document.place_of(where), message)


def _in_order(changes: Sequence[Change], there: Iterable[Entry]) -> Iterator[Change]:
    """Yield providers before the models that need them, and the other way round where they go.

    Organizations come with what is in them, in the order of the file: teams before those who name them.
    """
    providers = [one for one in changes if one.entry.kind == "provider"]
    yield from (one for one in providers if one.action is not Action.DELETE)
    yield from _models_in_order([one for one in changes if one.entry.kind == "model"], there)
    yield from (one for one in reversed(providers) if one.action is Action.DELETE)
    people = [one for one in changes if one.entry.kind not in ("provider", "model")]
    yield from (one for one in people if one.action is not Action.DELETE)
    yield from (one for one in reversed(people) if one.action is Action.DELETE)


def _models_in_order(changes: list[Change], there: Iterable[Entry]) -> Iterator[Change]:
    """Yield changes so that a name is given up by one model before another one takes it.

    Of models that exchange their names none can be first: they come as they are, and the node refuses them.
    """
    holders: dict[str, Any] = {name: one.name for one in there for name in one.claims}
    waiting = sorted(changes, key=lambda one: one.action is Action.DELETE)
    while waiting:
        free = next((one for one in waiting if _is_free(one, holders)), waiting[0])
        waiting.remove(free)
        for name in free.before.claims if free.before else ():
            holders.pop(name, None)
        holders.update(dict.fromkeys(free.after.claims if free.after else (), free.entry.name))
        yield free


def _is_free(change: Change, holders: dict[str, Any]) -> bool:
    claims = change.after.claims if change.after else frozenset[str]()
    return all(holders.get(name, change.entry.name) == change.entry.name for name in claims)
