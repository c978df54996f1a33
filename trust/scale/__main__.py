"""``python -m trust.scale measure`` and ``python -m trust.scale page``: see the package."""

from __future__ import annotations

import argparse

from . import measured, page


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trust.scale", description=__doc__)
    parser.add_argument("what", choices=("measure", "page"), help="time steps on 1 and 2 ranks; write the page of them")
    if parser.parse_args().what == "measure":
        print(f"wrote {measured.measure()}")
    else:
        print(f"wrote {page.write()}")


if __name__ == "__main__":
    main()
