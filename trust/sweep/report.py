"""What a sweep found, as the figures of its record."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .targets import TARGETS

if TYPE_CHECKING:
    from .__main__ import Found


def figures(every: dict[int, Found], kinds: int) -> dict[str, Any]:
    """Numbers of calls by outcome, over all seeds."""
    verdicts: Counter[str] = sum((found.verdicts for found in every.values()), Counter())
    raised: Counter[str] = sum((found.raised for found in every.values()), Counter())
    return {
        "kinds of wrong call in the table": kinds,
        "functions and methods swept": len(TARGETS),
        "arguments swept": sum(len(target.parameters) for target in TARGETS),
        "calls by seed": {str(seed): found.calls for seed, found in every.items()},
        "refused": verdicts["refused"],
        "right after all": verdicts["returned"] + verdicts["compared"],
        "of these, compared with portable C": verdicts["compared"],
        "crashes": verdicts["crash"],
        "hangs": verdicts["hang"],
        "changed something": verdicts["changed"],
        "exception of a wrong type": verdicts["type"],
        "message that does not name the argument": verdicts["message"],
        "other bits on portable C": verdicts["differs"],
        "exceptions": dict(raised.most_common()),
    }
