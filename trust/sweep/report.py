"""What a sweep found, as the figures of its record."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .targets import TARGETS

if TYPE_CHECKING:
    from .__main__ import Found

#: What the sweep and the tables found in the library when they were new, and what was mended then.
MENDED = (
    "crash: methods of Mask, Noise and Generator called on an object of another type",
    "crash: a seed, or a saved state, with a list that holds itself or a NumPy matrix",
    "crash: the private softmax functions under shapes that do not fit",
    "crash inside NumPy: an index whose own code sets the tensor's shape",
    "reading past the end: an array whose shape another thread sets during the call",
    "changed: the first groups of an optimizer whose state's last group was refused",
    "changed: a call taken from the generator by layers, random tensors and mc_predict that were refused later",
    "changed: running statistics of batch norm, where eps is a Fraction that NumPy then refuses",
    "silently right: a string, a number or None for True or False, in all kinds of dropout and most layers",
    "a wrong error: softmax of an empty axis, which is empty; keepdim=np.True_",
)


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
        "mended": list(MENDED),
    }
