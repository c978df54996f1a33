"""The Python tests with the compiled module under AddressSanitizer and UBSan: ``make test-asan``.

The module is built into a folder of its own. NumPy and the interpreter stay as they are, so the sanitizers' libraries
have to be there before them (``LD_PRELOAD``); leaks are not looked for, since the interpreter's own would drown ours.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from trust import record

ROOT = record.ROOT
BUILT = ROOT / "build" / "asan"
FLAGS = "-g1 -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
#: What is not run, and why.
LEFT_OUT = {
    "tests/torch": "PyTorch is not installed for it",
    "tests/mnist": "a training run, over kernels that tests/nn calls too",
    "tests/bench": "it times, and is none of the library",
    "tests/test_examples.py": "programs over the same calls, in processes of their own",
    "tests/test_package.py": "it looks at how the package is installed",
    "tests/test_capi.py": "it compiles modules of its own, which are not instrumented",
    "tests/test_memory_errors.py": "it replaces malloc, as the sanitizer does, and limits the address space",
}


def build() -> Path:
    """Build the package, instrumented, or what has changed of it; the folder to import it from."""
    env = {**os.environ, "CFLAGS": FLAGS, "LDFLAGS": "-fsanitize=address,undefined", "CC": os.environ.get("CC", "gcc")}
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(BUILT), "--build-lib", str(BUILT / "lib")]
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    return BUILT / "lib"


def environment(lib: Path) -> dict[str, str]:
    """Of a process that imports the instrumented package."""
    gcc = os.environ.get("CC", "gcc")
    paths = [
        subprocess.run([gcc, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")  # the last: what NumPy throws has to be known early
    ]
    return {
        **os.environ,
        "PYTHONPATH": str(lib),
        "LD_PRELOAD": ":".join(paths),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "FASTDROP_SANITIZED": str(lib),  # tests/test_sanitized.py: that all this is in force
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trust.sanitized", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write docs/trust/sanitizers.json")
    parser.add_argument(
        "tests", nargs="*", default=["tests"], help="what pytest runs; all but what is left out by default"
    )
    args = parser.parse_args(argv)
    began = time.monotonic()
    print("building the instrumented module ...", flush=True)
    lib = build()
    built = time.monotonic()
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args.tests]
    words += [word for path in LEFT_OUT for word in ("--ignore", path)]
    # Not from the root, whose fastdrop would be found first.
    report = BUILT / "pytest.txt"
    with report.open("w") as file:
        run = subprocess.Popen(
            [*words, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")],
            cwd=ROOT,
            env={**environment(lib), "PYTHONSAFEPATH": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="", flush=True)
            file.write(line)
    code = run.wait()
    text = report.read_text()
    findings = len(re.findall(r"ERROR: AddressSanitizer|runtime error:", text))
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text.splitlines()[-1])}
    print(f"{findings} findings of the sanitizers; {counts}; left out: {', '.join(LEFT_OUT)}")
    if args.record:
        figures = {
            "sanitizers": "address, undefined",
            "ran": args.tests,
            "findings": findings,
            "tests": counts,
            "left_out": LEFT_OUT,
            "build_seconds": round(built - began),
        }
        command = f"make test-asan ARGS='{' '.join(argv or sys.argv[1:])}'"
        record.write("sanitizers", command, time.monotonic() - began, figures)
    return code or findings


if __name__ == "__main__":
    sys.exit(main())
