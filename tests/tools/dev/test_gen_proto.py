"""The generator: what it writes, that it is repeatable, and that a difference is noticed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from dev import gen_proto

Generate = Callable[..., subprocess.CompletedProcess[str]]
STUBS = Path("clients/python/tokendance/gateway/v1")


def test_stubs_hold_the_rules_without_the_validator(generate: Generate, tmp_path: Path) -> None:
    """The light client imports the stubs without buf/validate; the rules are still in the options."""
    assert generate().returncode == 0
    # A regular package: a bare folder would stand behind the installed client.
    (tmp_path / "clients" / "python" / "tokendance" / "__init__.py").touch()
    code = (
        "import sys; sys.modules['buf'] = sys.modules['protovalidate'] = None\n"
        "from tokendance.gateway.v1 import sample_service_pb2 as pb, sample_service_pb2_grpc\n"
        "print(pb.GreetRequest.DESCRIPTOR.fields[0].GetOptions().SerializeToString().hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(tmp_path / "clients" / "python"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    # Field 1159 of the options, holding string rules of min_len 1 and max_len 8.
    assert done.stdout.strip() == "ba48067204" + "10011808"


def test_types_carry_the_comments(generate: Generate, tmp_path: Path) -> None:
    """Hovering over a field or an RPC shows what its proto says."""
    assert generate().returncode == 0
    assert "The name, 1 to 8 characters." in (tmp_path / STUBS / "sample_service_pb2.pyi").read_text()
    assert "Greets the named." in (tmp_path / STUBS / "sample_service_pb2_grpc.pyi").read_text()


def test_the_descriptors_mark_what_is_imported(generate: Generate, tmp_path: Path) -> None:
    """The artefact is complete, has comments for our files only, and tells tools which files are ours."""
    assert generate().returncode == 0
    files = FileDescriptorSet.FromString((tmp_path / "proto" / "api.binpb").read_bytes()).file
    mark = gen_proto.BUF_IMPORT_MARK.SerializeToString()
    ours = {file.name for file in files if mark not in file.SerializeToString()}
    assert ours == {"tokendance/gateway/v1/sample_service.proto"}
    assert ours == {file.name for file in files if file.HasField("source_code_info")}
    assert {name for file in files for name in file.dependency} <= {file.name for file in files}


def test_a_second_run_changes_nothing(generate: Generate, tmp_path: Path) -> None:
    """Output depends on the sources alone, and files that did not change keep their time."""
    assert generate().returncode == 0
    first = (tmp_path / "proto" / "api.binpb").read_bytes()
    written = (tmp_path / STUBS / "sample_service_pb2.py").stat().st_mtime_ns
    assert generate().returncode == 0
    assert (tmp_path / "proto" / "api.binpb").read_bytes() == first
    assert (tmp_path / STUBS / "sample_service_pb2.py").stat().st_mtime_ns == written
    assert generate("--check").returncode == 0


def test_check_names_every_difference(generate: Generate, tmp_path: Path) -> None:
    """--check lists what is missing, edited by hand and left over, and writes nothing."""
    assert generate().returncode == 0
    stubs = tmp_path / STUBS
    (stubs / "sample_service_pb2.py").unlink()
    (stubs / "sample_service_pb2.pyi").write_text("# edited\n")
    (stubs / "old_pb2.py").write_text("")
    (tmp_path / "proto" / "api.binpb").write_bytes(b"")
    done = generate("--check")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:4] == [
        "missing: tokendance/gateway/v1/sample_service_pb2.py",
        "not generated any more: tokendance/gateway/v1/old_pb2.py",
        "differs: tokendance/gateway/v1/sample_service_pb2.pyi",
        "differs: api.binpb",
    ]
    assert (stubs / "old_pb2.py").exists()


def test_generating_removes_what_is_left_over(generate: Generate, tmp_path: Path) -> None:
    """Stubs of a proto that is gone go with it."""
    assert generate().returncode == 0
    (tmp_path / STUBS / "old_pb2.py").write_text("")
    assert generate().returncode == 0
    assert not (tmp_path / STUBS / "old_pb2.py").exists()


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [("message Broken {", "Reached end of input"), ('import "google/rpc/status.proto";', "is unused")],
)
def test_errors_and_warnings_stop_it(
    generate: Generate, tmp_path: Path, sample: str, extra: str, complaint: str
) -> None:
    """Sources that do not compile, or compile with a warning, change no file."""
    done = generate(source=sample + extra)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert not (tmp_path / "proto" / "api.binpb").exists()


def test_dropping_an_import_moves_the_positions_after_it() -> None:
    """Public imports are stored by position; they still name the same files afterwards."""
    full = FileDescriptorSet(
        file=[
            FileDescriptorProto(name=gen_proto.VALIDATE),
            FileDescriptorProto(
                name="a.proto", dependency=["x.proto", gen_proto.VALIDATE, "y.proto"], public_dependency=[2]
            ),
        ]
    )
    (file,) = gen_proto.without_validate(full).file
    assert list(file.dependency) == ["x.proto", "y.proto"]
    assert list(file.public_dependency) == [1]


def test_the_generator_is_the_clients_dependency_floor() -> None:
    """Stubs refuse runtimes older than the generator, so the client must not promise to run on one."""
    root = gen_proto.ROOT
    project = tomllib.loads((root / "clients/python/pyproject.toml").read_text())["project"]
    pin = re.search(r"^grpcio-tools==(\S+)", (root / "requirements/gen.txt").read_text(), re.MULTILINE)
    made_for = re.search(
        r"ValidateProtobufRuntimeVersion\(\s*_runtime_version.Domain.PUBLIC,\s*(\d+),\s*(\d+),\s*(\d+),",
        (root / STUBS / "errors_pb2.py").read_text(),
    )
    assert pin is not None
    assert made_for is not None
    assert f"grpcio>={pin[1]}" in project["dependencies"]
    assert f"protobuf>={'.'.join(made_for.groups())},<8" in project["dependencies"]


def test_what_is_committed_is_current() -> None:
    """The stubs and descriptors in the repository are what its protos give."""
    done = subprocess.run(
        [
            gen_proto.ROOT / ".venv-gen" / "bin" / "python",
            gen_proto.ROOT / "tools" / "dev" / "gen_proto.py",
            "--check",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
