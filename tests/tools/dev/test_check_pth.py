"""The check against code that runs at every start of Python."""

from pathlib import Path

import pytest

from dev import check_pth


def test_paths_pass_and_code_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain path lines are what editable installs need; an import line is what an attacker needs."""
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "_editable.pth").write_text("/somewhere/server\n# import nothing\n")
    assert check_pth.main([str(tmp_path)]) == 0
    (packages / "bad.pth").write_text("import os; os.getcwd()\n")
    assert check_pth.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{packages / 'bad.pth'}: import os; os.getcwd()\n"


def test_an_environment_that_is_missing_is_no_clean_one(tmp_path: Path) -> None:
    """A misspelt folder must not pass for a checked one."""
    assert check_pth.main([str(tmp_path / "nowhere")]) == 1
