"""A corpus as one file, records of two bytes of length and so many more, and back:
`python tests/fuzz/pack.py pack FOLDER FILE` or `unpack FILE FOLDER`. One file is easier to keep than hundreds."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def pack(folder: Path, file: Path) -> int:
    """Write the inputs in `folder`, the shortest first; how many there are."""
    inputs = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda data: (len(data), data))
    file.write_bytes(b"".join(len(data).to_bytes(2, "little") + data for data in inputs))
    return len(inputs)


def unpack(file: Path, folder: Path) -> int:
    """Write each record of `file` as a file of its own; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    data, at, count = file.read_bytes(), 0, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        record = data[at + 2 : at + 2 + size]
        (folder / hashlib.sha1(record).hexdigest()).write_bytes(record)
        at, count = at + 2 + size, count + 1
    return count


if __name__ == "__main__":
    what, source, target = sys.argv[1:]
    print({"pack": pack, "unpack": unpack}[what](Path(source), Path(target)), "inputs")
