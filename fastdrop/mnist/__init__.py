"""The comparison on MNIST: two CNNs, equal but for dropout.

`data` loads the digits, `models` makes the networks, `experiment` trains them, `report` shows what came of it and
`progress` shows it happening. The command ``fastdrop mnist`` does all of it; in Python::

    from fastdrop import mnist

    digits = mnist.load()
    result = mnist.run(mnist.configure(digits, "quick"), digits)
    mnist.write(result, "results")

Importing this needs NumPy alone; `load` may need pooch or scikit-learn, `table` rich and `write` Matplotlib, which
``pip install "fastdrop[mnist]"`` brings.
"""

from .data import DataError, Dataset, load, split
from .experiment import Config, Net, Result, Step, configure, run
from .models import cnn
from .report import curves, predictions, table, write

__all__ = [
    "Config",
    "DataError",
    "Dataset",
    "Net",
    "Result",
    "Step",
    "cnn",
    "configure",
    "curves",
    "load",
    "predictions",
    "run",
    "split",
    "table",
    "write",
]
