"""Experiments on MNIST: networks times regularizers times seeds times sizes of the training set.

Read it upwards: `regularizers` and `models` say what there is, `study` makes runs of a grid, `data` loads the digits,
`training` does one run, `runner` many, `results` and `statistics` hold what came of them, `report` shows it. The
command ``fastdrop mnist`` does all of it; in Python::

    from fastdrop import mnist

    if __name__ == "__main__":  # processes are started
        digits = mnist.load()
        runs = mnist.expand([{"regularizers": ["none", "dropout"]}], digits, "quick")
        results = mnist.execute(runs, digits, pathlib.Path("results"))
        mnist.report.write(results, "results")

Importing this needs NumPy alone; `load` may need pooch or scikit-learn, training threadpoolctl and safetensors, and
what looks at results SciPy, rich and Matplotlib: ``pip install "fastdrop[mnist]"`` brings them.
"""

from . import report
from .data import DataError, Dataset, load, split
from .models import make
from .regularizers import parse
from .results import Record, Results
from .runner import execute
from .study import Run, expand, read_toml
from .training import train

__all__ = [
    "DataError",
    "Dataset",
    "Record",
    "Results",
    "Run",
    "execute",
    "expand",
    "load",
    "make",
    "parse",
    "read_toml",
    "report",
    "split",
    "train",
]
