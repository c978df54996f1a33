"""Dtypes, as arguments: those that tensors hold, and those that parameters have."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop._checks import shown


def checked_dtype(dtype: Any) -> np.dtype[Any]:
    """Return `dtype` as NumPy's, of the real numbers or bool that tensors hold.

    Examples
    --------
    >>> checked_dtype("f4")
    dtype('float32')
    >>> checked_dtype("nonsense")
    Traceback (most recent call last):
    TypeError: dtype has to be one of NumPy's real numbers or bool, such as 'float32', but got 'nonsense'
    """
    found: np.dtype[Any] | None = None
    # NumPy takes whatever has a dtype for it, and None for float64.
    if dtype is not None and not isinstance(dtype, np.ndarray) and not hasattr(dtype, "graph_version"):
        try:
            found = np.dtype(dtype)
        except Exception:  # whatever it is that its own attributes raise
            pass
    if found is None or found.kind not in "fiub" or found.itemsize > 8:
        raise TypeError(
            f"dtype has to be one of NumPy's real numbers or bool, such as 'float32', but got {shown(dtype)}"
        )
    return found


def floating_dtype(dtype: Any) -> np.dtype[Any]:
    """Return `dtype` as NumPy's, of floating numbers: that of parameters."""
    found = checked_dtype(dtype)
    if found.kind != "f":
        raise TypeError(f"dtype has to be a floating one for parameters, but got {found}")
    return found
