"""``python -m bench.paired``, from the repository's root."""

from __future__ import annotations

import sys

from fastdrop.bench.command import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m bench.paired"))
