"""Whether what a call did is what a wrong call, or a right one, should do."""

from __future__ import annotations

import re
from typing import Any

from .evil import Evil
from .target import Target

#: What may come out of a wrong call. RuntimeError is what PyTorch raises where fastdrop.nn follows it.
RIGHT = (TypeError, ValueError, RuntimeError, MemoryError)
#: And what may not, though it is one of these.
WRONG = (RecursionError, UnicodeError)
#: Names that messages have for an argument, beside its own.
ALSO = {
    "p": ("dropout probability", "probability"),
    "dropout_p": ("dropout probability",),
    "array": ("Tensors",),
    "x": ("input", "takes"),
    "input": ("takes", "tensor", "axes", "dtype"),
    "rng": ("generator",),
    "generator": ("rng",),
    "size": ("shape",),
    "shape": ("size", "takes"),
    "noise_shape": ("takes",),
    "dtype": ("tensor", "data type", "limit"),
    "spatial": ("takes",),
    "axis": ("axes",),
    "key": ("sequence", "index"),
    "axes": ("axis",),
    "dim": ("axis", "axes", "dim0", "dim1"),
    "dims": ("dim", "axes"),
    "tokens": ("token",),
    "weight": ("takes", "x"),
    "data": ("tensor", "Tensors"),
    "target": ("Target",),
    "params": ("parameter", "axes", "iteration", "Tensor"),
    "num_features": ("too big",),
    "model": ("classes",),
    "out": ("memory",),
    "masks": ("mask", "axes"),
    "dim_feedforward": ("weight",),
    "hidden_size": ("weight",),
    "in_features": ("weight",),
    "out_channels": ("weight",),
    "in_channels": ("weight",),
    "kernel_size": ("weight",),
    "out_features": ("weight",),
    "normalized_shape": ("too big",),
    "embed_dim": ("weight",),
    "kdim": ("weight",),
    "vdim": ("weight",),
    "inplace": ("in-place",),
    "d_model": ("embed_dim",),
    "nhead": ("num_heads",),
    "layer_norm_eps": ("eps",),
    "nesterov": ("Nesterov",),
    "embedding_dim": ("size",),
    "a": ("std",),
    "eps": ("epsilon",),
    "path": ("File", "file", "directory"),
    "checkpoint": ("directory",),
    "index": ("slice",),
    "modules": ("axes", "iteration", "module"),
}
#: Labels of values that say themselves what is wrong, or are not what they say.
OWN = ("claims to be", "tensor that lies", "meddles", "a history", "closed file", "bare", "in a thread")
#: How Python itself says that a call does not fit a signature.
PYTHON = re.compile(
    r"(missing|unexpected|takes|expected) .*(argument|keyword)|has incorrect type|must not be None|descriptor"
)


def complaint(target: Target, arguments: dict[str, Any], labels: dict[str, str], error: BaseException) -> str | None:
    """What is wrong with the exception of a call some of whose arguments were replaced; None if nothing is."""
    if isinstance(error, SystemError):
        return "type"
    if isinstance(error, (Evil, MemoryError)) or raised_by_torch(error):
        return None
    if any(word in label for label in labels.values() for word in OWN):
        return None  # it is not what it was said to be, or nothing is what it was when it was checked
    if target.name.startswith("_core."):
        # Private: callers check, so that only the sanity of the kind is asked for.
        return None if isinstance(error, (*RIGHT, KeyError, OverflowError, IndexError, AttributeError)) else "type"
    if isinstance(error, OverflowError) and "generator" in str(error):
        return None
    right = RIGHT if target.name.startswith(("fd.", "Mask", "Noise", "Generator")) else (*RIGHT, IndexError)
    if isinstance(error, WRONG) or not isinstance(error, (*right, *target.loud)):
        return "type"
    said = str(error)
    if type(error) is RuntimeError and target.name.split(".")[0] in ("fd", "Mask", "Noise", "Generator"):
        return "type"
    # Where two arguments do not fit each other, either may be called the wrong one.
    names = {*arguments, *target.words} - {"self"}
    for name in arguments:
        names.update(ALSO.get(name, ()))
    if any(re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", said) for name in names) or PYTHON.search(said):
        return None
    return "message"


def raised_by_torch(error: BaseException) -> bool:
    """Whether PyTorch itself has raised: what fastdrop does not take goes to its own functions."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        last, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return "/site-packages/torch/" in last


def comes_from_argument(error: BaseException) -> bool:
    """Whether an exception was raised by an argument's own code, at whatever depth."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.endswith(("sweep/evil.py",)):
                return True
            trace = trace.tb_next
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False
