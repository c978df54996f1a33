"""Break the kernels on purpose, one line at a time, and ask the fuzzer's seeds: ``make fuzz-mutants``.

A test of the test: each mutant has to be noticed, by a wrong result, a byte too many, or undefined behaviour.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from trust import record

ROOT = record.ROOT
SEEDS = ROOT / "tests" / "fuzz" / "seeds.bin"
#: What is broken, in which file: the line as it is, and as the mutant has it.
MUTANTS = (
    ("a word that two pieces share", "fd_view.c", "v >> (n - w->fill)", "v >> (n - w->fill + 1)"),
    ("offsets that leave int64", "fd_view.c", "return (int64_t)((uint64_t)a * (uint64_t)b);", "return a * b;"),
    ("a tail read as a whole", "fd_fused.c", "end - i < PIECE ? end - i : PIECE", "PIECE"),
    ("where a second chunk starts", "fd_apply.c", "c * CHUNK - skew : 0, to", "c * CHUNK : 0, to"),
    ("a block one element short", "fd_block.c", "done < b.extent", "done < b.extent - 1"),
    ("a row's sum", "fd_softmax.c", "sum == 0 ? 0 : 1 / sum", "1 / sum"),
    ("a tile turned", "fd_apply.c", "a[r] ^= t << w, a[r | w] ^= t;", "a[r] ^= t << w;"),
)


def noticed(program: Path) -> str | None:
    """What the seeds say of it; None: nothing."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run([str(program), str(SEEDS)], capture_output=True, text=True, env=env, timeout=600)
    if run.returncode == 0:
        return None
    words = ("FINDING", "SUMMARY", "runtime error")
    return next((line for line in run.stderr.splitlines() if any(w in line for w in words)), run.stderr[-200:])


def main() -> int:
    objects = ROOT / "build" / "fuzz" / "mutants"
    compiler = os.environ.get("CC", "cc")
    flags = (
        "-std=c11 -w -g1 -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc -Ifastdrop/include".split()
    )
    sources = [
        *sorted((ROOT / "csrc").glob("*.c")),
        *(ROOT / "tests" / "fuzz" / f"{n}.c" for n in ("fuzz_api", "model", "driver")),
    ]
    objects.mkdir(parents=True, exist_ok=True)
    parts = [*sources, *(ROOT / "csrc").glob("*.h"), *(ROOT / "tests" / "fuzz").glob("*.h")]
    newest = max(path.stat().st_mtime for path in parts)

    def compile_(source: Path, to: Path) -> None:
        subprocess.run(
            [compiler, *flags, f"-I{ROOT}/tests/fuzz", "-c", str(source), "-o", str(to)], cwd=ROOT, check=True
        )

    for n, source in enumerate(sources, 1):
        to = objects / f"{source.stem}.o"
        if to.exists() and to.stat().st_mtime > newest:
            continue
        print(f"building {n} of {len(sources)}: {source.name}", flush=True)
        compile_(source, to)
    program = objects / "run"

    def link(*instead: Path) -> None:
        of = {path.stem: path for path in objects.glob("*.o")} | {path.stem: path for path in instead}
        libraries = ["-fsanitize=address,undefined", "-lm", "-lpthread"]
        subprocess.run([compiler, *map(str, of.values()), "-o", str(program), *libraries], check=True)

    link()
    if (found := noticed(program)) is not None:
        print(f"the seeds find fault with what is not broken: {found}")
        return 1
    missed = 0
    for what, name, line, broken in MUTANTS:
        text = (ROOT / "csrc" / name).read_text()
        if text.count(line) != 1:
            raise SystemExit(f"{name} has {text.count(line)} times what is to be broken: {line}")
        folder = objects / "broken"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace(line, broken))
        compile_(folder / name, folder / f"{Path(name).stem}.o")
        link(folder / f"{Path(name).stem}.o")
        found = noticed(program)
        missed += found is None
        print(f"{'MISSED' if found is None else 'noticed'}: {what} ({name}): {found or ''}", flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} mutants noticed")
    return missed


if __name__ == "__main__":
    sys.exit(main())
