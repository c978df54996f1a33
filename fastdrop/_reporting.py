"""What the reports of ``fastdrop mnist`` and ``fastdrop bench`` share: one look, one way to write numbers.

Colours are Okabe and Ito's, which people with any colour vision tell apart; line styles and marks repeat what colour
says, for print.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from ._files import whole_file

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
FAINT = "#777777"
STYLE = {"font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK, "axes.edgecolor": FAINT}


def say(line: str) -> None:
    """Tell the user what is no result: on standard error, and whose line it is."""
    print(f"fastdrop: {line}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Say in one line what is wrong.

    Examples
    --------
    >>> reason(FileNotFoundError(2, "No such file or directory", "a.txt")), reason(ValueError())
    ('a.txt: No such file or directory', 'ValueError')
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds.

    Examples
    --------
    >>> clock(59.6), clock(3725)
    ('1:00', '62:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def spread_labels(places: list[float], apart: float, low: float, high: float) -> list[float]:
    """Move labels apart that would overprint each other, as little as can be, in their order and between two bounds.

    Examples
    --------
    >>> spread_labels([2.0, 2.0, 5.0], 2.0, 0.0, 9.0)
    [1.0, 3.0, 5.0]
    >>> spread_labels([0.0, 0.0, 5.0], 2.0, 0.0, 9.0)
    [0.0, 2.0, 5.0]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    last = len(order) - 1
    groups: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        # With room kept for those below and above, no group's middle can push its ends over a bound.
        groups.append((min(max(places[index], low + apart * rank), high - apart * (last - rank)), 1))
        while len(groups) > 1:
            (lower, n), (upper, m) = groups[-2:]
            if upper - lower >= apart * (n + m) / 2:
                break
            groups[-2:] = [((lower * n + upper * m) / (n + m), n + m)]
    spread = [centre + apart * (i - (count - 1) / 2) for centre, count in groups for i in range(count)]
    back = dict(zip(order, spread, strict=True))
    return [back[index] for index in range(len(places))]


def figures(value: float) -> str:
    """Write a positive number with three figures, and all that stand before the point.

    Examples
    --------
    >>> figures(0.016123), figures(0.2), figures(1.234), figures(12.345), figures(1234.5), figures(0.0)
    ('0.0161', '0.200', '1.23', '12.3', '1,234', '0')
    """
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _plain(value: Any) -> Any:
    """Turn NaN and infinities into null: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write numbers to a file that appears whole or not at all."""
    text = json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
