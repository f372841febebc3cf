"""Lets the folder run as it is: `python tools/dev/bench`."""

import sys
from pathlib import Path

if not __package__:
    # Run as a folder, it is no package and its own modules lie on the path; put `tools` there in their place.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from dev.bench.cli import main

sys.exit(main())
