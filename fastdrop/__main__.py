"""``python -m fastdrop``: the same as the command ``fastdrop``."""

import sys

from fastdrop.cli import main

if __name__ == "__main__":
    sys.exit(main())
