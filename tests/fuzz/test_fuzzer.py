"""Each target for a while under the coverage-guided fuzzer, from its seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.seeds import SEEDS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))


@pytest.mark.long
@pytest.mark.parametrize("name", SEEDS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    """No input in so many seconds raises what it should not, hangs, or fills the memory."""
    pytest.importorskip("atheris", reason="there is no fuzzer for this platform")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(SEEDS[name])
    script = Path(__file__).with_name("run_fuzzer.py")
    limits = [f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1500", "-max_len=4096"]
    done = subprocess.run(
        [sys.executable, script, name, *limits, f"-artifact_prefix={tmp_path}/", corpus],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
