"""The tool that takes the README's pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import browser, screenshots


def test_without_a_browser_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And writes nothing."""
    monkeypatch.setenv(browser.VARIABLE, "no-such-program")
    assert screenshots.main(["--output", str(tmp_path / "pictures")]) == 1
    assert "make browser" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()
