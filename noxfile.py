"""The tests on several Pythons, each with its oldest and its newest NumPy: ``make test-matrix``.

The Makefile lists them in ``PYTHONS``. A version is looked for on PATH (as python3.10), a path is taken as it is. What
is not there is skipped and named, here and by trust/matrix.py, which reads what the sessions leave in build/matrix.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["matrix"]

PYTHONS = os.environ.get("PYTHONS", f"{sys.version_info[0]}.{sys.version_info[1]}").split()
#: The first NumPy from 2.0 on that has wheels for a Python; for those not listed it is 2.0.
OLDEST = {"3.13": "2.1.0", "3.14": "2.3.2", "3.15": "2.5.2"}
#: What is run on all of them. On the oldest with its oldest NumPy and the newest with its newest it is everything.
CORE = [*sorted(str(path) for path in Path("tests").glob("test_*.py")), "tests/nn/test_buffers.py"]
NOT_CORE = {"test_examples.py", "test_readme.py", "test_doctests.py", "test_cli.py"}
OUT = Path("build/matrix")

WHO = """
import json, platform, sys, numpy, fastdrop
gil = getattr(sys, "_is_gil_enabled", lambda: True)()
print(json.dumps({"python": platform.python_version(), "free_threaded": not gil, "numpy": numpy.__version__,
                  "isa": fastdrop.isa()}))
"""


@nox.session(python=PYTHONS)
@nox.parametrize("numpy", ["oldest", "newest"])
def matrix(session: nox.Session, numpy: str) -> None:
    """Install fastdrop beside a NumPy, and run its tests.

    It is installed in place, as `make test` has it, since tests start processes in this folder. Compiled modules of
    several Pythons lie side by side, under names of their own.
    """
    version = _version(session)
    name = f"{version}-{numpy}"
    oldest = OLDEST.get(version.removesuffix("t"), "2.0.0")
    _install(session, f"numpy=={oldest}" if numpy == "oldest" else "numpy>=2")

    whole = (session.python, numpy) in ((PYTHONS[0], "oldest"), (PYTHONS[-1], "newest"))
    chosen = session.posargs or (["tests"] if whole else [t for t in CORE if Path(t).name not in NOT_CORE])
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.xml").unlink(missing_ok=True)
    who = json.loads(session.run("python", "-W", "error", "-c", WHO, silent=True).splitlines()[-1])
    asked = session.posargs if len(session.posargs) < 3 else [f"{len(session.posargs)} files of tests"]
    who["part"] = " ".join(asked) or ("everything" if whole else "core")
    (OUT / f"{name}.json").write_text(json.dumps(who))
    session.run("pytest", "-q", f"--junitxml={OUT / name}.xml", *chosen, env=_no_gil(version))


@nox.session(python=PYTHONS)
def parallel(session: nox.Session) -> None:
    """Each test in several threads at once, on Pythons without a GIL."""
    version = _version(session)
    if not version.endswith("t"):
        session.skip("has a GIL")
    _install(session, "numpy>=2", "pytest-run-parallel")
    chosen = session.posargs or [
        "tests/test_mask.py",
        "tests/test_mask_law.py",
        "tests/test_apply.py",
        "tests/test_many.py",
    ]
    session.run("pytest", "-q", "--parallel-threads=4", *chosen, env=_no_gil(version))


def _no_gil(version: str) -> dict[str, str]:
    """Keep the GIL off whatever other packages ask for; that ours do not, tests/test_free_threading.py tests."""
    return {"PYTHON_GIL": "0"} if version.endswith("t") else {}


def _install(session: nox.Session, *others: str) -> None:
    """Install fastdrop, what its tests use, and others. Of what has no wheel for a Python the tests do without."""
    session.install("--only-binary=:all:", "-e", ".", *others)
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    names = [name for key in ("test", "mnist", "nn", "bfloat16") for name in extras[key] if "fastdrop[" not in name]
    if not _pip(session, *names, *others):
        missing = [name for name in names if not _pip(session, name, *others)]
        session.warn(f"no wheels for this Python, so not there: {', '.join(missing)}")


def _pip(session: nox.Session, *packages: str) -> bool:
    """Whether pip could install them from wheels."""
    done = session.run_install(
        "pip", "install", "-q", "--only-binary=:all:", *packages, success_codes=[0, 1], silent=True
    )
    return "No matching distribution" not in str(done)


def _version(session: nox.Session) -> str:
    """As 3.13, or 3.13t for a build without a GIL."""
    code = "import sys; print('%d.%d' % sys.version_info[:2] + ('t' if 't' in sys.abiflags else ''))"
    return session.run("python", "-c", code, silent=True).splitlines()[-1].strip()
