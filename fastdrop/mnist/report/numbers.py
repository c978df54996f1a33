"""``results.json``: everything the report shows, and every run, as numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..results import Results, labels
from ..statistics import Paired
from .comparisons import Comparison
from .tables import estimates

__all__ = ["SCHEMA", "numbers"]

#: What the file's entries mean; 1 was the comparison of two networks.
SCHEMA = 2


def _paired(found: Paired | None, corrected: float | None, unit: float = 1.0) -> dict[str, Any] | None:
    if found is None:
        return None
    difference = dataclasses.asdict(found.difference)
    for name in ("mean", "std", "half"):
        difference[name] = None if difference[name] is None else unit * difference[name]
    return {**difference, "p": found.p_value, "p_holm": corrected}


def numbers(results: Results, comparisons: Sequence[Comparison], summary: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Give the results in plain types.

    Parameters
    ----------
    results : Results
    comparisons : sequence of Comparison
    summary : str
    facts : dict
        Further entries, such as the command and the environment.

    Returns
    -------
    dict
        Accuracies are in percent in ``arms`` and ``comparisons``, fractions in ``runs``; ``half`` is half the width of
        the 95 % interval. The classes that a run read stand in its own ``record.json``.
    """
    data = results.dataset
    named = labels(results.arms)
    arms = []
    for arm, name in named.items():
        settings = dataclasses.asdict(arm)
        del settings["seed"]
        runs = [record for record in results.records if record.run.arm == arm]
        measures = {key: found and dataclasses.asdict(found) for key, found in estimates(results, arm).items()}
        arms.append(
            {
                "name": name,
                "settings": settings,
                "seeds": [record.run.seed for record in results.of(arm)],
                "diverged": sorted(record.run.seed for record in runs if record.diverged is not None),
                "measures": measures,
            }
        )
    records = []
    for record in results.records:
        held = record.to_dict()
        del held["predicted"]
        records.append({"key": record.run.key, **held})
    return {
        "schema": SCHEMA,
        "dataset": {
            "name": data.name,
            "source": data.source,
            "size": list(data.size),
            "classes": data.classes,
            "digest": data.digest,
            "train_file": len(data.train_labels),
            "test_file": len(data.test_labels),
            "test_counts": np.bincount(data.test_labels, minlength=data.classes).tolist(),
        },
        **facts,
        "summary": summary,
        "arms": arms,
        "comparisons": [
            {
                "first": named[each.first],
                "second": named[each.second],
                "baseline": each.baseline,
                "test_accuracy": _paired(each.accuracy, each.accuracy_p, 100.0),
                "test_loss": _paired(each.loss, each.loss_p),
            }
            for each in comparisons
        ],
        "runs": records,
    }
