"""Optional packages, imported at first use, so that ``import fastdrop.mnist`` and the like need NumPy alone."""

from __future__ import annotations

import importlib
from typing import Any

PACKAGES = {"sklearn": "scikit-learn"}


def extra(module: str, of: str = "mnist") -> Any:
    """Import an optional module, or say how to get it.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"matplotlib.figure"``.
    of : str
        Who needs it: a subpackage that has an extra of its name.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        Where the package is not installed; the message names the command that installs it.

    Examples
    --------
    >>> extra("json").dumps([1, 2])
    '[1, 2]'
    >>> extra("no_such_package.part")
    Traceback (most recent call last):
    ImportError: fastdrop.mnist needs no_such_package: pip install "fastdrop[mnist]"
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that is there but lacks a dependency of its own must not be reported as absent.
        missing = (error.name or top).partition(".")[0]
        raise ImportError(
            f'fastdrop.{of} needs {PACKAGES.get(missing, missing)}: pip install "fastdrop[{of}]"', name=missing
        ) from error
