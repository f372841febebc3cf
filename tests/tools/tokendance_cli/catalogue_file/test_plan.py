"""What would have to change on a node, in an order in which it works."""

import dataclasses
from pathlib import Path
from typing import Any

from tokendance_cli.catalogue_file.entries import Entry, declared_entries
from tokendance_cli.catalogue_file.plan import Action, Plan, make_plan
from tokendance_cli.catalogue_file.schema import read_file
from tokendance_cli.catalogue_file.show import summary


def plan(tmp_path: Path, text: str, kept: list[Entry], *, prune: bool = False) -> Plan:
    """The plan of a file."""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    declared = read_file(file)
    return make_plan(declared, declared_entries(declared), kept, prune=prune)


def provider(name: str, **fields: Any) -> str:
    """A line of a provider."""
    return f"  - {{name: {name}, kind: openai, base_url: 'https://{name}.example'{_more(fields)}}}\n"


def model(name: str, *, to: str = "a", **fields: Any) -> str:
    """A line of a model."""
    return f"  - {{name: {name}, routes: [{{provider: {to}, upstream_model: up}}]{_more(fields)}}}\n"


def _more(fields: dict[str, Any]) -> str:
    return "".join(f", {name}: {value}" for name, value in fields.items())


def kept(tmp_path: Path, text: str) -> list[Entry]:
    """The entries of a node that was brought to a file before."""
    file = tmp_path / "kept.yaml"
    file.write_text(text)
    return [dataclasses.replace(one, etag=f"e-{one.name}") for one in declared_entries(read_file(file))]


def steps(made: Plan) -> list[str]:
    """The changes in short."""
    return [f"{one.action} {one.entry.name}" for one in made.changes]


BOTH = "providers:\n" + provider("a") + "models:\n" + model("fast")


def test_a_node_that_is_as_the_file_says_needs_nothing(tmp_path: Path) -> None:
    """Whatever the order in the file."""
    made = plan(tmp_path, BOTH, kept(tmp_path, BOTH)[::-1], prune=True)
    assert made == Plan([], [], [])


def test_providers_come_before_models_and_go_after_them(tmp_path: Path) -> None:
    """What the file does not name goes only with prune, and is told in either case."""
    text = "models:\n" + model("new", to="b") + "providers:\n" + provider("b")
    there = kept(tmp_path, BOTH)
    made = plan(tmp_path, text, there)
    assert steps(made) == ["create b", "create new"]
    assert [one.title for one in made.only_there] == ["provider a", "model fast"]
    pruned = plan(tmp_path, text, there, prune=True)
    assert steps(pruned) == ["create b", "create new", "delete fast", "delete a"]
    assert pruned.changes[-1].entry.etag == "e-a"
    assert summary(pruned.changes) == "2 to create, 2 to delete"


def test_a_name_that_a_model_beside_the_file_has_is_a_problem(tmp_path: Path) -> None:
    """With its place; not where that model goes, or where the file names it too."""
    there = kept(tmp_path, "providers:\n" + provider("a") + "models:\n" + model("slow", aliases="[x]"))
    text = "providers:\n" + provider("a") + "models:\n" + model("fast", aliases="[y, x]")
    (problem,) = plan(tmp_path, text, there).problems
    column = text.splitlines()[3].index("x]") + 1
    assert (problem.place.line, problem.place.column) == (4, column)
    assert problem.message == "the name x belongs to the model slow of the node, which is not in the file"
    assert not plan(tmp_path, text, there, prune=True).problems
    assert not plan(tmp_path, text + model("slow"), there).problems


def test_a_change_names_the_fields_that_differ(tmp_path: Path) -> None:
    """It carries the etag of what it was made from."""
    text = (
        "providers:\n" + provider("a", public_label="A") + "models:\n" + model("fast", aliases="[x]", context_window=5)
    )
    made = plan(tmp_path, text, kept(tmp_path, BOTH))
    assert [(one.action, one.entry.etag, one.fields) for one in made.changes] == [
        (Action.UPDATE, "e-a", ["public_label"]),
        (Action.UPDATE, "e-fast", ["aliases", "context_window"]),
    ]


def test_a_name_is_given_up_before_it_is_taken(tmp_path: Path) -> None:
    """From alias to alias, from model to alias, and from alias to model; a chain of them too."""
    there = kept(
        tmp_path,
        "providers:\n"
        + provider("a")
        + "models:\n"
        + model("m1", aliases="[x]")
        + model("m2", aliases="[y]")
        + model("m3"),
    )
    head = "providers:\n" + provider("a") + "models:\n"
    moved = plan(tmp_path, head + model("m1", aliases="[y]") + model("m2", aliases="[z]") + model("m3"), there)
    assert steps(moved) == ["update m2", "update m1"]
    replaced = plan(tmp_path, head + model("m1", aliases="[x, m3]") + model("m2", aliases="[y]"), there, prune=True)
    assert steps(replaced) == ["delete m3", "update m1"]
    promoted = plan(tmp_path, head + model("x") + model("m1") + model("m2", aliases="[y]") + model("m3"), there)
    assert steps(promoted) == ["update m1", "create x"]
    swapped = plan(tmp_path, head + model("m1", aliases="[y]") + model("m2", aliases="[x]") + model("m3"), there)
    assert len(steps(swapped)) == 2


def test_what_the_settings_name_can_be_declared_only_as_it_is(tmp_path: Path) -> None:
    """And it is never pruned."""
    there = [dataclasses.replace(one, read_only=True, etag="") for one in kept(tmp_path, BOTH)]
    assert plan(tmp_path, BOTH, there) == Plan([], [], [])
    assert plan(tmp_path, "models: []\n", there, prune=True) == Plan([], [], [])
    differing = plan(tmp_path, "models:\n" + model("fast", display_name="Other"), there)
    assert [(one.place.line, "settings file" in one.message) for one in differing.problems] == [(2, True)]


def test_a_route_needs_a_provider_that_stays(tmp_path: Path) -> None:
    """One of the file, or one of the node that is not pruned."""
    there = kept(tmp_path, BOTH)
    text = "models:\n" + model("fast") + model("lost", to="none")
    made = plan(tmp_path, text, there)
    assert [(one.place.line, one.place.column) for one in made.problems] == [(3, 38)]
    assert "neither in the file nor on the node" in made.problems[0].message
    pruned = plan(tmp_path, text, there, prune=True)
    assert [one.place.line for one in pruned.problems] == [2, 3]
    assert "--prune would delete it" in pruned.problems[0].message
