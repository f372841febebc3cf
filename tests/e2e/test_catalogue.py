"""The catalogue on a node that runs: declared in a file, brought about by `tokendance apply`, callable at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.calls import rest
from tests.e2e.nodes import (
    PROVIDER_KEY,
    ROOT,
    Node,
    await_file,
    clean_environment,
    free_ports,
    start,
    stopping,
    wait_ready,
)
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.upstream import Upstream, until

from tokendance_server.providers.wire_formats import WIRE_FORMATS

SENTENCE = "The quick brown fox jumps over the lazy dog."

SETTINGS = """\
[server.egress]
allow_private = ["10.0.0.0/24"]

[[providers]]
name = "settled"
kind = "demo"

[[models]]
name = "settled"
routes = [{ provider = "settled", upstream_model = "demo-echo" }]
"""


def provider(name: str, base_url: str, variable: str) -> str:
    """The line of a provider whose credential is in a variable of the node's environment."""
    credential = f"env:TOKENDANCE_PROVIDER_{variable}"
    return f"  - {{name: {name}, kind: openai, base_url: '{base_url}', credential: {credential}}}\n"


@dataclass
class Bench:
    """A node, a file for it, and the commands that join them."""

    node: Node
    upstream: Upstream
    file: Path

    def run(self, command: str, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `apply` or `diff` on the file, written anew where a text is given."""
        if text is not None:
            self.file.write_text(text)
        return tokendance("--data-dir", str(self.node.data_dir), command, "-f", str(self.file), *arguments)

    def text(self, *models: str) -> str:
        """A file with the simulator as its provider, and models given as flow mappings without their routes."""
        head = f"providers:\n{provider('sim', self.upstream.base_url, 'SIM')}"
        lines = [f"  - {{routes: [{{provider: sim, upstream_model: sim}}], {one}}}\n" for one in models]
        return f"{head}models:\n{''.join(lines)}" if models else f"{head}models: []\n"

    async def answers(self, model: str) -> str:
        """The code of a call's error, or nothing where it is answered."""
        return (await rest(self.node, model, stream=False)).code


@pytest.fixture(scope="module")
def bench(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A node whose settings name one model of the demo, and whose environment has the keys of some providers."""
    folder = tmp_path_factory.mktemp("catalogue")
    folder.joinpath("gateway.toml").write_text(SETTINGS)
    http, internal, grpc = free_ports(3)
    addresses = ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}", "--grpc", f"127.0.0.1:{grpc}"]
    command = ["serve", "--config", "gateway.toml", "--data-dir", "data", "--key-file", "key", *addresses]
    secrets = clean_environment(
        TOKENDANCE_PROVIDER_SIM=PROVIDER_KEY,
        **{f"TOKENDANCE_PROVIDER_{name}": "sk-a" for name in ("ANTHROPIC", "AZURE", "OPENAI", "VLLM")},
    )
    folder.joinpath("data").mkdir(mode=0o700)
    folder.joinpath("data", "secrets").mkdir(mode=0o700)
    folder.joinpath("data", "secrets", "gemini").write_text("sk-a")
    process = start("node", command, folder, secrets)
    with stopping([process]):
        wait_ready(process, f"http://127.0.0.1:{internal}")
        await_file(folder / "key")
        node = Node(
            topology="one",
            origin=f"http://127.0.0.1:{http}",
            grpc=f"127.0.0.1:{grpc}",
            internal=(f"http://127.0.0.1:{internal}",),
            api_key=folder.joinpath("key").read_text().strip(),
            data_dir=folder / "data",
            processes=(process,),
        )
        yield Bench(node, upstream, folder / "gateway.yaml")


@pytest.fixture(autouse=True)
def _emptied(bench: Bench) -> Iterator[None]:
    """Leave nothing behind for the next test."""
    yield
    done = bench.run("apply", "--prune", "--yes", text="providers: []\nmodels: []\n")
    assert done.returncode == 0, done.stderr


async def test_from_nothing_to_callable_changed_and_gone(bench: Bench) -> None:
    """Applied, a model answers within a second; a second time there is nothing to do; what is pruned is gone."""
    assert await bench.answers("fast") == "model_not_found"
    text = bench.text("name: fast, description: Quick")
    shown = bench.run("diff", text=text)
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (1, "2 to create.")
    assert "+ model fast" in shown.stdout
    assert await bench.answers("fast") == "model_not_found"

    done = bench.run("apply", "--yes")
    applied = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("created provider sim\ncreated model fast\n")
    assert await bench.answers("fast") == ""
    assert time.monotonic() - applied < 1
    for command in ("apply", "diff"):
        again = bench.run(command)
        assert (again.returncode, again.stdout) == (0, "Nothing to change.\n")

    changed = bench.run("diff", text=bench.text("name: fast, aliases: [swift], description: Quick"))
    assert changed.stdout == "~ model fast\n  + aliases: [swift]\n1 to change.\n"
    assert bench.run("apply", "--yes").returncode == 0
    assert await bench.answers("swift") == ""
    assert bench.run("diff").returncode == 0

    left = bench.run("diff", text="providers: []\nmodels: []\n")
    assert (left.returncode, left.stdout) == (0, "Nothing to change.\n")
    assert "provider sim, model fast; --prune deletes them" in left.stderr
    pruned = bench.run("apply", "--prune", "--yes")
    assert pruned.stdout.endswith("deleted model fast\ndeleted provider sim\n")
    assert await bench.answers("swift") == "model_not_found"
    assert await bench.answers("settled") == ""


async def test_a_stream_outlives_its_model(bench: Bench) -> None:
    """What runs goes on to its end, while the next call is refused already."""
    slow = bench.text("name: slow").replace("upstream_model: sim}", "upstream_model: 'sim:tokens=40:rate=20'}")
    assert bench.run("apply", "--yes", text=slow).returncode == 0
    bench.upstream.forget()
    running = asyncio.create_task(rest(bench.node, "slow", stream=True))
    await asyncio.to_thread(until, lambda: bench.upstream.busy() > 0)
    await asyncio.to_thread(bench.run, "apply", "--prune", "--yes", text="providers: []\nmodels: []\n")
    assert await bench.answers("slow") == "model_not_found"
    assert not running.done()
    seen = await running
    assert (seen.code, seen.finish, seen.done) == ("", "stop", True)


def test_the_sample_is_accepted(bench: Bench) -> None:
    """As it stands, where the node has the keys and the networks that it speaks of."""
    sample = (ROOT / "docs" / "gateway.sample.yaml").read_text()
    shown = bench.run("diff", text=sample)
    assert (shown.returncode, shown.stderr, shown.stdout.splitlines()[-1]) == (1, "", "10 to create.")
    assert bench.run("apply", "--yes").returncode == 0
    assert bench.run("diff").returncode == 0
    listed = documents(bench.node.data_dir, "providers", "list")
    names = ("anthropic", "azure", "gemini", "ollama", "openai", "settled", "vllm")
    assert [one["name"] for one in listed] == [f"providers/{name}" for name in names]
    assert "sk-a" not in json.dumps(listed)


EVERYTHING = """\
providers:
  - name: sim
    kind: openai
    base_url: {base_url}
    credential: env:TOKENDANCE_PROVIDER_SIM
    more_credentials: [env:TOKENDANCE_PROVIDER_OPENAI]
    max_concurrent_requests: 50
    max_tokens_per_minute: 1000000
    extra_headers: {{x-team: tests}}
models:
  - name: all
    aliases: [below/*]
    supported_parameters: [seed]
    input_modalities: [text, image]
    output_modalities: [text]
    deprecation_date: 2031-02-03
    successor: more
    availability_note: Weekdays only.
    visibility: public
    routes:
      - provider: sim
        upstream_model: sim-echo
        tags: [region:eu]
        max_requests_per_minute: 1000
        default_parameters: {{top_k: 5}}
        forced_parameters: {{temperature: 0.25, metadata: {{team: tests}}}}
    fallbacks:
      - model: other
        causes: [context_length]
      - model: last
"""


async def test_everything_that_a_file_can_say_is_kept_and_counts(bench: Bench) -> None:
    """A second time there is nothing to change; callers see what is theirs, and the upstream what is forced."""
    text = EVERYTHING.format(base_url=bench.upstream.base_url)
    assert bench.run("apply", "--yes", text=text).returncode == 0
    again = bench.run("diff")
    assert (again.returncode, again.stdout) == (0, "Nothing to change.\n")
    changed = bench.run("diff", text=text.replace("temperature: 0.25", "temperature: 0.5"))
    assert "forced_parameters" in changed.stdout

    bench.upstream.forget()
    assert await bench.answers("below/anything") == ""
    sent = json.loads(bench.upstream.log()[-1]["body"])
    assert (sent["model"], sent["top_k"], sent["temperature"]) == ("sim-echo", 5, 0.25)
    assert sent["metadata"] == {"team": "tests"}
    asked = await rest(bench.node, "below/anything", stream=False, temperature=1, top_p=0.5)
    assert "temperature: The gateway's operator sets this field" in asked.headers["x-tokendance-warnings"]
    assert "top_p" not in asked.headers["x-tokendance-warnings"]

    shown = documents(bench.node.data_dir, "models", "inspect", "all")
    assert shown["routes"][0]["tags"] == ["region:eu"]
    table = tokendance("--data-dir", str(bench.node.data_dir), "models", "inspect")
    assert [line.split()[:2] for line in table.stdout.splitlines()[1:]] == [
        ["all", "below/*"],
        ["settled", "everybody"],
    ]
    seen = tokendance("models", "show", "below/x", "--format", "json", **key_of(bench))
    model = json.loads(seen.stdout)
    assert (model["id"], model["shutdown_date"], model["successor"]) == ("all", "2031-02-03", "more")
    assert (model["input_modalities"], model["supported_parameters"]) == (["text", "image"], ["seed"])
    sim = tokendance("--data-dir", str(bench.node.data_dir), "providers", "show", "sim")
    assert "env:TOKENDANCE_PROVIDER_OPENAI" in sim.stdout
    missing = tokendance("--data-dir", str(bench.node.data_dir), "models", "inspect", "nothing")
    assert (missing.returncode, missing.stdout) == (1, "")


def key_of(bench: Bench) -> dict[str, str]:
    """What a holder of the node's key has in its environment."""
    return {"TOKENDANCE_BASE_URL": bench.node.base_url, "TOKENDANCE_API_KEY": bench.node.api_key}


async def test_what_a_provider_has_is_written_as_a_file(bench: Bench) -> None:
    """Which can be applied as it is; what is served already is listed only where it is wanted."""
    assert bench.run("apply", "--yes", text=bench.text("name: sim-tools")).returncode == 0
    found = tokendance("--data-dir", str(bench.node.data_dir), "models", "discover", "sim")
    assert (found.returncode, found.stderr) == (0, "")
    assert "  - name: sim-echo\n" in found.stdout
    assert "  - name: sim\n" not in found.stdout
    assert "    capabilities: [embeddings]" in found.stdout
    applied = bench.run("apply", "--yes", text=found.stdout)
    assert applied.returncode == 0, applied.stderr
    assert await bench.answers("sim-echo") == ""
    listed = documents(bench.node.data_dir, "models", "discover", "sim")
    assert all(one["served"] for one in listed)
    nothing = tokendance("--data-dir", str(bench.node.data_dir), "models", "discover", "sim")
    assert nothing.stdout.endswith("models: []\n")
    everything = tokendance("--data-dir", str(bench.node.data_dir), "models", "discover", "sim", "--all")
    assert "  - name: sim/sim-echo\n" in everything.stdout
    assert bench.run("diff", text=everything.stdout).returncode == 1


KINDS = {"anthropic": "/v1", "azure-openai": "/openai/v1", "gemini": "/v1beta", "openai": "/v1"}


async def test_one_api_stands_before_every_kind_of_provider(bench: Bench) -> None:
    """The same call, streamed and not, is answered by each of them."""
    assert set(KINDS) == set(WIRE_FORMATS)
    lines = [
        f"  - {{name: {kind}, kind: {kind}, base_url: '{bench.upstream.origin}{path}', "
        "credential: env:TOKENDANCE_PROVIDER_SIM}\n"
        for kind, path in KINDS.items()
    ]
    models = [f"  - {{name: by-{kind}, routes: [{{provider: {kind}, upstream_model: sim}}]}}\n" for kind in KINDS]
    text = f"providers:\n{''.join(lines)}models:\n{''.join(models)}"
    assert bench.run("apply", "--yes", text=text).returncode == 0
    for kind in KINDS:
        for stream in (False, True):
            seen = await rest(bench.node, f"by-{kind}", stream=stream)
            assert (seen.code, seen.text, seen.finish) == ("", SENTENCE, "stop"), kind
            assert seen.usage["completion_tokens"] == 9


async def test_how_far_it_came_is_told(bench: Bench) -> None:
    """What is done stays done, what failed is named with its line, and the rest was not tried.

    Two models exchange their aliases here: neither can be the first.
    """
    before = bench.text("name: fast, aliases: [x]", "name: slow, aliases: [y]")
    assert bench.run("apply", "--yes", text=before).returncode == 0
    text = bench.text("name: new", "name: fast, aliases: [y]", "name: slow, aliases: [x]")
    done = bench.run("apply", "--yes", text=text)
    assert done.returncode == 1
    assert done.stdout.endswith("created model new\n")
    lines = done.stderr.splitlines()
    assert lines[0] == "tokendance: 1 of 3 changes are done, then one failed:"
    column = text.splitlines()[4].index("y]") + 1
    assert lines[1].startswith(f"  {bench.file}:5:{column}: update model fast: already_exists: ")
    assert lines[2:4] == ["  Done before it: model new.", "  Not tried: model slow."]
    assert lines[4].startswith("TOKENDANCE_REQUEST_ID=req_")

    told = bench.run("apply", "--yes", "--format", "json")
    assert [one["state"] for one in json.loads(told.stdout)["changes"]] == ["failed", "not_tried"]
    repaired = bench.run("apply", "--yes", text=before)
    assert (repaired.returncode, await bench.answers("x")) == (0, "")


def test_what_the_node_would_refuse_is_told_before_anything_is_done(bench: Bench) -> None:
    """An address that may not be reached, a key that is not there, a name that is taken: each with its place."""
    text = (
        "providers:\n"
        "  - {name: meta, kind: openai, base_url: 'http://169.254.169.254/v1'}\n"
        "  - {name: near, kind: openai, base_url: 'http://10.1.0.5:8000/v1'}\n"
        + provider("unset", "https://a.example", "NONE")
        + "models:\n  - {name: settled2, aliases: [settled], routes: [{provider: meta, upstream_model: x}]}\n"
    )
    lines = text.splitlines()
    wanted = {
        f"2:{lines[1].index(chr(39)) + 1}": "169.254.169.254 is a metadata service",
        f"3:{lines[2].index(chr(39)) + 1}": "add its network to allow_private in [server.egress]",
        f"4:{lines[3].index('env:') + 1}": "TOKENDANCE_PROVIDER_NONE is not set",
        f"6:{lines[5].index('settled]') + 1}": "belongs to the model settled of the node",
    }
    for command in (["diff"], ["apply", "--yes"], ["apply", "--dry-run"]):
        refused = bench.run(*command, text=text)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        told = refused.stderr.splitlines()[1:]
        for line, (place, why) in zip(told, wanted.items(), strict=True):
            assert line.startswith(f"  {bench.file}:{place}: ")
            assert why in line
    listed = documents(bench.node.data_dir, "providers", "list")
    assert [one["name"] for one in listed] == ["providers/settled"]
    kept = bench.text("name: fast")
    assert bench.run("apply", "--yes", text=kept).returncode == 0
    moved = kept.replace(bench.upstream.base_url, "http://10.1.0.5:8000/v1")
    refused = bench.run("diff", text=moved)
    assert refused.returncode == 2
    assert "gateway.yaml:2:" in refused.stderr


def test_what_cannot_be_compared_is_neither_same_nor_different(bench: Bench, tmp_path: Path) -> None:
    """Invalid files are 2, with every mistake; what the settings name cannot be declared differently; no node is 3."""
    invalid = bench.run("diff", text="models:\n  - {nam: x}\nmodel: []\n")
    assert (invalid.returncode, invalid.stdout) == (2, "")
    assert [line.split(": ")[0].rpartition("yaml:")[2] for line in invalid.stderr.splitlines()[1:]] == [
        "2:5",
        "2:5",
        "2:6",
        "3:1",
    ]
    settled = "models:\n  - {name: settled, aliases: [x], routes: [{provider: settled, upstream_model: demo-echo}]}\n"
    for command in ("diff", "apply"):
        refused = bench.run(command, text=settled)
        assert refused.returncode == 2
        assert f"{bench.file}:2:5: model settled is named differently in the node's settings file" in refused.stderr
    gone = tokendance("--data-dir", str(tmp_path), "diff", "-f", str(bench.file), "--format", "json")
    assert gone.returncode == 3
    missing = tokendance("--data-dir", str(tmp_path), "diff", "-f", str(tmp_path / "none.yaml"))
    assert (missing.returncode, "cannot be read" in missing.stderr) == (2, True)


def test_nothing_is_done_unasked(bench: Bench) -> None:
    """A dry run shows and stops; without a terminal to ask at, a change needs --yes."""
    text = bench.text("name: fast")
    dry = bench.run("apply", "--dry-run", text=text)
    assert (dry.returncode, dry.stdout.splitlines()[-1]) == (0, "2 to create; nothing was done.")
    unasked = bench.run("apply")
    assert unasked.returncode == 2
    assert "Add --yes" in unasked.stderr
    assert bench.run("diff").returncode == 1
    as_json = json.loads(bench.run("diff", "--format", "json").stdout)
    assert [(one["action"], one["kind"], one["name"]) for one in as_json["changes"]] == [
        ("create", "provider", "sim"),
        ("create", "model", "fast"),
    ]
    assert as_json["changes"][1]["fields"]["visibility"] == {"before": None, "after": "internal"}
