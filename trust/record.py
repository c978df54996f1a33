"""What a proof's run found, as a file of figures: docs/trust/NAME.json, from which trust/page.py writes docs/trust.md.

A record holds what was run, when, on what, and the figures, so that no number on the page is typed by hand.
"""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

from fastdrop._environment import environment
from fastdrop._files import whole_file

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "trust"


def write(name: str, command: str, seconds: float, figures: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a record.

    Parameters
    ----------
    name : str
        Of the proof: the file is ``folder/NAME.json``.
    command : str
        What to type to run it again.
    seconds : float
        How long it took.
    figures : dict
        What was found, as JSON can hold it.
    folder : Path

    Returns
    -------
    Path
        The file.
    """
    record = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "seconds": round(seconds, 1),
        "environment": environment(),
        "figures": figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with whole_file(path) as part:
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The record of a proof that has been run."""
    record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _commit() -> str:
    """The commit that was run, with a plus sign where files differ from it."""
    found = [
        subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    return found[0] + ("+" if found[1] else "")
