"""The public error page says what the schema says."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from dev.error_docs import ROOT, main, render
from tokendance.errors import table


@pytest.fixture
def descriptors() -> FileDescriptorSet:
    """The descriptors as they are committed."""
    return FileDescriptorSet.FromString((ROOT / "proto" / "api.binpb").read_bytes())


def test_committed_page_is_up_to_date() -> None:
    """The page is generated, never edited."""
    assert main(["--check"]) == 0


def test_every_code_has_its_section(descriptors: FileDescriptorSet) -> None:
    """Each row of the table stands on the page once, with what to check first."""
    page = render(descriptors)
    for _, spec in table():
        assert page.count(f"### `{spec.code}`\n") == 1
        assert spec.check_first in page


def test_stale_page_fails_the_check(tmp_path: Path, descriptors: FileDescriptorSet) -> None:
    """A page that somebody changed by hand, or forgot to write, is noticed; writing it cures that."""
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "api.binpb").write_bytes(descriptors.SerializeToString())
    arguments = ["--root", str(tmp_path)]
    assert main(["--check", *arguments]) == 1
    assert main(arguments) == 0
    assert main(["--check", *arguments]) == 0


def test_row_without_comment_is_refused(descriptors: FileDescriptorSet) -> None:
    """A code that says nothing of itself cannot be published."""
    file = next(file for file in descriptors.file if file.name.endswith("/errors.proto"))
    file.ClearField("source_code_info")
    with pytest.raises(ValueError, match="has no comment"):
        render(descriptors)
