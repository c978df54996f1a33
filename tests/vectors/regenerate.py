"""Write the .json files here again from fastdrop/reference.py: `python tests/vectors/regenerate.py [--check]`.

With --check nothing is written, and the exit status says whether the files are what the reference gives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from fastdrop import reference

PATH = Path(__file__).with_name("mask_law.json")
NORMALS = Path(__file__).with_name("normals.json")
CASES = [
    (0, 0, 0.5, 0, 256),
    (42, 7, 0.1, 0, 256),
    (0x0123456789ABCDEF, 2**40 + 3, 0.25, 131, 300),
    (2**64 - 1, 2**64 - 1, 0.9, 2**35 - 64, 256),
    (1, 2, 1 / 3, 2**50 + 5, 200),
    (7, 1, 2.0**-20, 0, 256),
]


def vectors() -> str:
    out = []
    for key, call, p, start, count in CASES:
        bits = reference.keep(key, call, p, start, (count,), (1,))
        out.append(
            {
                "seed": str(key),
                "call": str(call),
                "p": p,
                "start": str(start),
                "count": count,
                "keep_threshold": str(reference.threshold(p)),
                "kept": int(bits.sum()),
                "bits_lsb_first_hex": np.packbits(bits, bitorder="little").tobytes().hex(),
            }
        )
    return json.dumps(out, indent=1) + "\n"


def normal_vectors() -> str:
    out = []
    for key, call, _, start, count in CASES:
        z = reference.normals(key, call, start, (count,), (1,))
        out.append(
            {
                "seed": str(key),
                "call": str(call),
                "start": str(start),
                "count": count,
                "first": [float(v) for v in z[:4]],
                "float32_little_endian_hex": z.astype("<f4").tobytes().hex(),
            }
        )
    return json.dumps(out, indent=1) + "\n"


if __name__ == "__main__":
    for path, text in ((PATH, vectors()), (NORMALS, normal_vectors())):
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what fastdrop/reference.py gives")
