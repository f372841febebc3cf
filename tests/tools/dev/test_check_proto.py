"""The proto rules: what the lint and the breaking check catch, and what they let pass."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from dev import check_proto
from tokendance.gateway.v1 import errors_pb2

Generate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def compiled(generate: Generate, tmp_path: Path, sample: str) -> Callable[[str, str], Path]:
    """Compiles the sample with one text put in another's place and gives the path of its descriptors."""

    def run(old: str, new: str) -> Path:
        assert old in sample
        done = generate(source=sample.replace(old, new))
        assert done.stderr == ""
        return tmp_path / "proto" / "api.binpb"

    return run


def test_the_sample_is_clean(released: Path) -> None:
    """Good style passes; so do the imported files, whose style is not ours."""
    assert check_proto.lint(released) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  // How it went.\n", "", 'Field "code" should have a non-empty comment'),
        ("  // Greets the named.\n", "", 'RPC "Greet" should have a non-empty comment'),
        ("string name", "string firstName", 'should be lower_snake_case, such as "first_name"'),
        (
            "Part(PartRequest)",
            "Part(GreetRequest)",
            "is used as the request or response type for multiple RPCs",
        ),
        ("min_len: 1", "min_len: 9", "min_len"),
    ],
)
def test_lint_catches(compiled: Callable[[str, str], Path], old: str, new: str, complaint: str) -> None:
    """Missing comments, odd names, shared messages and rules that contradict each other are complaints."""
    assert any(complaint in line for line in check_proto.lint(compiled(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("string name = 1", "string called = 1", "changed option"),
        ("string name = 1", "string name = 2", 'Previously present field "1"'),
        (
            "string name = 1 [(buf.validate.field).string",
            "bytes name = 1 [(buf.validate.field).bytes",
            "type",
        ),
        ("rpc Part(PartRequest) returns (PartResponse);", "", 'Previously present RPC "Part"'),
        (
            "rpc Greet(GreetRequest) returns (GreetR",
            "rpc Greet(GreetRequest) returns (stream GreetR",
            "stream",
        ),
    ],
)
def test_breaking_changes_are_caught(
    compiled: Callable[[str, str], Path], released: Path, old: str, new: str, complaint: str
) -> None:
    """A renamed field, a new number or type, a removed RPC and one that streams now break clients."""
    complaints = check_proto.breaking(compiled(old, new), released)
    assert any(complaint in line for line in complaints), complaints


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("message PartRequest {}", "message PartRequest {\n  // Why.\n  string reason = 1;\n}"),
        ("message PartRequest {}", "message PartRequest {}\n\n// More.\nmessage More {}"),
        ("// Greets the named.", "// Greets whoever is named."),
    ],
)
def test_additions_pass(compiled: Callable[[str, str], Path], released: Path, old: str, new: str) -> None:
    """New fields, new messages and better comments break nobody."""
    assert check_proto.breaking(compiled(old, new), released) == []


def test_stable_codes_never_change(tmp_path: Path) -> None:
    """Another code for a released reason is a complaint; a new reason is none."""
    api = check_proto.ROOT / "proto" / "api.binpb"
    released = FileDescriptorSet.FromString(api.read_bytes())
    (errors,) = (file for file in released.file if file.name == check_proto.ERRORS_FILE)
    (reasons,) = (enum for enum in errors.enum_type if enum.name == "ErrorReason")
    (row,) = (value for value in reasons.value if value.name == "ERROR_REASON_KEY_EXPIRED")
    row.options.Extensions[errors_pb2.error].code = "key_too_old"
    del reasons.value[-1]
    path = tmp_path / "released.binpb"
    path.write_bytes(released.SerializeToString())
    (complaint,) = check_proto.breaking(api, path)
    assert 'KEY_EXPIRED had the stable code "key_too_old" and now has "key_expired"' in complaint


def test_before_the_first_release_nothing_can_break(
    compiled: Callable[[str, str], Path],
    released: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without released descriptors the check passes and says why; with them it compares."""
    changed = str(compiled("string name = 1", "string name = 2"))
    assert check_proto.main(["--descriptors", changed, "--released", str(tmp_path / "none.binpb")]) == 0
    assert "Nothing has been released" in capsys.readouterr().out
    assert check_proto.main(["--descriptors", changed, "--released", str(released)]) == 1
    assert "Previously present field" in capsys.readouterr().err


def test_a_broken_tool_is_not_a_clean_result(tmp_path: Path) -> None:
    """Descriptors that cannot be read are an error, not an absence of complaints."""
    path = tmp_path / "api.binpb"
    path.write_bytes(b"\xff")
    with pytest.raises(RuntimeError):
        check_proto.lint(path)
