"""A small API in a repository of its own, compiled by the real generator in its real environment."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.gen_proto import ROOT

SAMPLE = """\
// A sample of our protos.
syntax = "proto3";

package tokendance.gateway.v1;

import "buf/validate/validate.proto";
import "google/rpc/code.proto";

// Greets.
service SampleService {
  // Greets the named.
  rpc Greet(GreetRequest) returns (GreetResponse);
  // Takes leave of the named.
  rpc Part(PartRequest) returns (PartResponse);
}

// Whom to greet.
message GreetRequest {
  // The name, 1 to 8 characters.
  string name = 1 [(buf.validate.field).string = {
    min_len: 1
    max_len: 8
  }];
}

// A greeting.
message GreetResponse {
  // How it went.
  google.rpc.Code code = 1;
}

// Of whom to take leave.
message PartRequest {}

// A farewell.
message PartResponse {}
"""


@pytest.fixture
def sample() -> str:
    """The sample's source."""
    return SAMPLE


def run_generator(root: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs gen_proto.py on a repository at `root` whose only proto is `source`."""
    folder = root / "proto" / "tokendance" / "gateway" / "v1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sample_service.proto").write_text(source)
    command = [ROOT / ".venv-gen" / "bin" / "python", ROOT / "tools" / "dev" / "gen_proto.py"]
    return subprocess.run([*command, "--root", root, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def generate(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs gen_proto.py on the sample, or on what `source` gives instead of it, below `tmp_path`."""

    def run(*arguments: str, source: str = SAMPLE) -> subprocess.CompletedProcess[str]:
        return run_generator(tmp_path, source, *arguments)

    return run


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The descriptors of the sample as it stands, compiled once."""
    root = tmp_path_factory.mktemp("released")
    done = run_generator(root, SAMPLE)
    assert done.stderr == ""
    return root / "proto" / "api.binpb"
