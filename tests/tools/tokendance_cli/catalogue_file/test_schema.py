"""Gateway files: what one may say, and everything that is wrong with one, each with its place."""

import re
from pathlib import Path

import pytest

from tokendance_cli.catalogue_file.schema import InvalidFileError, read_file
from tokendance_server.providers import anthropic, gemini, openai
from tokendance_server.providers.wire_formats import KINDS

ROOT = Path(__file__).resolve().parents[4]
SECRET = "sk-canary"
PROVIDER = "providers:\n  - name: a\n    kind: openai\n    base_url: https://a.example/v1\n"
MODEL = "models:\n  - name: m\n    routes:\n      - provider: a\n        upstream_model: up\n"


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """Lines of what is wrong, each as `line:column: message`."""
    file = tmp_path / "gateway.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidFileError) as caught:
        read_file(file)
    assert all(line.startswith(f"{file}:") for line in caught.value.lines)
    return [line.removeprefix(f"{file}:") for line in caught.value.lines]


def test_the_sample_has_no_fault() -> None:
    """Nor does anything in it stand for its default only by luck."""
    content = read_file(ROOT / "docs" / "gateway.sample.yaml").content
    assert [one.name for one in content.providers] == ["openai", "anthropic", "gemini", "azure", "vllm", "ollama"]
    assert {one.kind for one in content.providers} == {"openai", "anthropic", "gemini", "azure-openai"}
    assert [one.name for one in content.models] == ["fast", "deep", "private", "embed"]
    assert content.models[0].routes[2].priority == 1


def test_the_page_names_every_kind_and_every_capability() -> None:
    """Nobody finds them elsewhere."""
    page = (ROOT / "docs" / "operations" / "providers.md").read_text()
    capabilities = {**openai.CAPABILITIES, **gemini.CAPABILITIES, **anthropic.CAPABILITIES, "api_version:DATE": ""}
    assert [name for name in capabilities if f"| `{name}` |" not in page] == []
    assert [kind for kind in KINDS if f"| `{kind}` |" not in page] == []


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    """Each mistake where it stands, in the order of the file, and no value of a credential."""
    text = f"""\
providers:
  - name: Open AI
    kind: openai
    base_url: api.openai.com
    credential: {SECRET}
    capabilites: [x]
  - name: b
    kind: azure
    connect_timeout_s: fast
    extra_headers: [a]
  - name: b
    kind: openai
    capabilities: [nope]
models:
  - name: fast
    aliases: [fast, 4]
    routes: []
    context_window: 0x10
  - name: slow
    aliases:
    route: x
    weight: 1
  - name: odd
    routes: [{{provider: b, upstream_model: c, weight: 0}}]
  - 3
modells: 1
"""
    found = problems(tmp_path, text)
    assert SECRET not in "".join(found)
    expected = [
        "2:11: name: must be a name: at most 63 of a-z",
        "4:15: base_url: must start with http:// or https://",
        "5:17: credential: must be a reference",
        "6:5: there is no key capabilites; did you mean capabilities?",
        "8:11: kind: there is no kind 'azure'; known are openai, ",
        "9:24: connect_timeout_s: must be a number",
        "10:20: extra_headers: must be a mapping",
        "11:11: the name b is taken in line 7",
        "13:19: capabilities: unknown capabilities: nope",
        "16:15: the name fast is taken in line 15",
        "16:21: entry of aliases: must be text; put it in quotes",
        "17:13: routes: must not be empty",
        "18:21: 0x10 is a number in another notation",
        "19:5: routes: is missing",
        "20:13: aliases: has no value",
        "21:5: there is no key route; did you mean routes?",
        "22:5: there is no key weight; known are name, aliases",
        "24:55: weight: must be greater than or equal to 1",
        "25:5: entry of models: must be a mapping",
        "26:1: there is no key modells; did you mean models?",
    ]
    assert len(found) == len(expected), "\n".join(found)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1:1: it is empty"),
        ("# nothing\n", "1:1: it is empty"),
        ("- 1", "1:1: must be a mapping"),
        ("models: [", "1:10: this is no YAML"),
        ("models: []\n\tproviders: []", "2:1: this is no YAML"),
        ("models: []\n---\nmodels: []", "2:1: this is no YAML"),
        ("models: \x01", "1:9: no YAML holds the character U+0001"),
        (b"models: []\n# \xff", "2:1: this line is not in UTF-8"),
        ("models: &a []\nproviders: *a", "2:12: references (*name) are not read here"),
        ("models: []\nmodels: []", "2:1: models stands here a second time, after line 1"),
        ("? [a]\n: 1", "1:3: a key must be a word"),
        ('models: !!python/object:os.x "1"', "1:9: tags such as"),
        ('models: "\\ud800"', "1:9: half a character"),
        (f"{PROVIDER}    extra_headers: {{x-a: 1}}", "5:26: x-a: must be text"),
        (f"{PROVIDER}    credential: no", "5:17: credential: must be text"),
        (f"{PROVIDER}    idle_timeout_s: 1:30", "5:21: 1:30 is a number in another notation"),
        (f"{PROVIDER}    idle_timeout_s: .nan", "5:21: .nan is a number in another notation"),
        (f"{PROVIDER}    idle_timeout_s: 0", "5:21: idle_timeout_s: must be greater than 0"),
        ("providers: [{name: a, kind: openai}]", "1:13: base_url is missing"),
        ("providers: [{name: a, kind: demo, base_url: 'http://x'}]", "1:13: the built-in demo has no base_url"),
        (f"{MODEL}    capabilities: [chat]", "6:20: entry of capabilities: must be 'completions'"),
        (f"{MODEL}    context_window: 1.5", "6:21: context_window: must be a whole number"),
        ("[" * 3000 + "]" * 3000, "1:1: it is nested too deeply"),
    ],
)
def test_odd_files(tmp_path: Path, text: str | bytes, told: str) -> None:
    """One sentence with its place, whatever is wrong."""
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    assert found[0].startswith(told)


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    """And a slash at the end of an address means nothing."""
    file = tmp_path / "gateway.yaml"
    file.write_text(PROVIDER.replace("/v1", "/v1/") + MODEL)
    content = read_file(file).content
    assert content.providers[0].base_url == "https://a.example/v1"
    assert content.providers[0].idle_timeout_s == 120
    assert content.models[0].capabilities == ("completions",)
    assert content.models[0].visibility == "internal"


def test_what_the_sample_only_shows_can_be_taken(tmp_path: Path) -> None:
    """The part on organizations, with its marks of a comment taken away."""
    text = (ROOT / "docs" / "gateway.sample.yaml").read_text()
    file = tmp_path / "gateway.yaml"
    file.write_text(
        re.sub(r"^# ?( *(?:- |\w+:|# ))", r"\1", text[text.index("# organizations:") :], flags=re.MULTILINE)
    )
    declared = read_file(file).content.organizations
    assert [one.display_name for one in declared] == ["Acme"]
    assert declared[0].policy is not None
    assert declared[0].policy.issuance_rules[0].quota_ceiling[0].limit == 100
