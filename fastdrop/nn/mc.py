"""Monte-Carlo dropout: predictions with dropout at work, many times, and what their spread says.

A pass is named by (seed, t): all its masks come from one generator, the t-th child of the seed's. So any pass can be
had again alone, and none has to be kept.

Modules that training mode makes drop are told from those for which it means something else by `Module.mc_training`, an
attribute of the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from fastdrop._checks import check_flags, check_int, shown
from fastdrop._core import Generator, apply_masks
from fastdrop.broadcast import feature_shape, locked_shape, path_shape, token_shape
from fastdrop.functional import noise_shape_to_mask_shape
from fastdrop.nn import functional as F
from fastdrop.nn.autograd import Array, enable_grad, no_grad
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.mc_sums import MCPrediction, Sums
from fastdrop.nn.module import Module, Sequential
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import default_generator, drawing_from, refunding

__all__ = ["MCPrediction", "mc_dropout", "mc_predict"]

Seed = int | Sequence[int] | np.random.SeedSequence

#: Bytes of inputs that are made at once from what all passes share.
GROUP = 32 << 20


def _seed_sequence(seed: Seed) -> np.random.SeedSequence:
    return Generator(seed).seed_seq


def _pass_generator(seq: np.random.SeedSequence, t: int) -> Generator:
    return Generator(np.random.SeedSequence(seq.entropy, spawn_key=(*seq.spawn_key, t), pool_size=seq.pool_size))


def _check_t(t: Any) -> int:
    return check_int("t", t, 0, 2**32 - 1)


@contextmanager
def _masks_from(model: Module, generator: Generator) -> Iterator[None]:
    """All that the model's modules draw comes from `generator`: it stands in for theirs, and for the default one."""
    places = [
        (module.__dict__, name, value)
        for module in model.modules()
        for name, value in module.__dict__.items()
        if isinstance(value, Generator)
    ]
    try:
        for attributes, name, _ in places:
            attributes[name] = generator
        with drawing_from(generator):
            yield
    finally:
        for attributes, name, value in places:
            attributes[name] = value


@contextmanager
def _mc_modes(model: Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = module.mc_training
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class mc_dropout:
    """A block in which a model drops as in training, and does everything else as in evaluation.

    Every module is in training mode, except those whose class says ``mc_training = False`` because training mode means
    something else to it: batch normalisation, which would use the batch's own statistics and change its running ones.
    Modules that hold dropout probabilities inside, and those that call ``F.dropout(x, p, self.training)``, drop too.
    The mode of each module is restored at the end, also after an exception; blocks may be nested, and one may be
    entered again.

    Parameters
    ----------
    model : Module
    seed : int, sequence of int or numpy.random.SeedSequence, optional
        With `t`: the masks are those of pass t. All that the model draws in the block comes from one new generator,
        ``Generator(seed).spawn(t + 1)[t]`` (of a seed that has spawned nothing yet), whatever generators its modules
        have; theirs and the default one are neither used nor changed. Without: masks come from where they always do.
    t : int, optional
        The number of the pass, from 0.
    grad : bool, default False
        Record for backward. The block is one of `no_grad` otherwise.

    Raises
    ------
    TypeError, ValueError
        If `model` is no Module, one of `seed` and `t` is given without the other, or one is of the wrong kind.

    Notes
    -----
    *Compatibility guarantee*: equal (seed, t) give equal masks, as long as the model draws in the same order.
    Generators that stand in an attribute of a module, or are the default one, are replaced; others, and random numbers
    that are not fastdrop's, are not seen. Modes belong to the model: do not use it in another thread meanwhile.

    References
    ----------
    Gal, Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning", ICML 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> model = nn.Sequential(nn.Dropout(0.5)).eval()
    >>> with nn.mc_dropout(model, seed=0, t=2):
    ...     model(np.ones(6, np.float32))
    tensor([0., 2., 2., 2., 0., 2.])
    >>> model.training
    False
    """

    def __init__(self, model: Module, seed: Seed | None = None, t: int | None = None, *, grad: bool = False) -> None:
        _check_model(model)
        check_flags(grad=grad)
        if (seed is None) != (t is None):
            raise ValueError(
                f"seed and t name a pass together: give both or neither, but got seed={shown(seed)}, t={shown(t)}"
            )
        self._model = model
        self._grad = grad
        self._pass = None if seed is None else (_seed_sequence(seed), _check_t(t))
        self._open: list[ExitStack] = []

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(_mc_modes(self._model))
            stack.enter_context(enable_grad() if self._grad else no_grad())
            if self._pass is not None:
                stack.enter_context(_masks_from(self._model, _pass_generator(*self._pass)))
            self._open.append(stack.pop_all())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.pop().__exit__(kind, error, trace)


def _check_model(model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model has to be a Module, but got a {type(model).__name__}")


# ---- passes ----

#: The layers that are one mask of a shape of their own, applied: several of their masks can be applied at once.
_MASK_SHAPES: dict[Callable[..., Tensor], Callable[[Any, tuple[int, ...]], tuple[int, ...]]] = {
    F.dropout: lambda layer, shape: noise_shape_to_mask_shape(layer.noise_shape, shape),
    F.dropout1d: lambda layer, shape: feature_shape(shape, 1, layer.channels_last),
    F.dropout2d: lambda layer, shape: feature_shape(shape, 2, layer.channels_last),
    F.dropout3d: lambda layer, shape: feature_shape(shape, 3, layer.channels_last),
    F.drop_path: lambda layer, shape: path_shape(shape, layer.mode),
    F.locked_dropout: lambda layer, shape: locked_shape(shape, layer.batch_first),
    F.token_dropout: lambda layer, shape: token_shape(shape),
}


def _is_one_mask(module: Module, x: Array) -> bool:
    return (
        isinstance(module, DropoutBase)
        and type(module).forward is DropoutBase.forward
        and module._function in _MASK_SHAPES
        and module.training
        and module.p != 0
        and x.dtype in (np.float16, np.float32, np.float64)
    )


def _flat(module: Module) -> list[Module]:
    if isinstance(module, Sequential) and type(module).forward is Sequential.forward:
        return [inner for child in module for inner in _flat(child)]
    return [module]


def _is_ours(module: Module) -> bool:
    return all(type(inner).__module__.partition(".")[0] == "fastdrop" for inner in module.modules())


def _run(modules: list[Module], x: Array) -> Any:
    # What passes share is copied first: a module may work in place.
    value: Any = named_tensor(x, "x")
    for module in modules:
        value = module(value)
    return value


def _shared(model: Module, x: Array) -> tuple[Array, list[Module]]:
    """What all passes have in common: the result of the first modules, as far as these are fastdrop's own and draw
    nothing (of others' nobody knows that), and the modules that are left."""
    modules = _flat(model)
    for at, module in enumerate(modules):
        if not _is_ours(module) or _is_one_mask(module, x):
            return x, modules[at:]
        probe = Generator(0)
        with _masks_from(model, probe):
            y = _run([module], x.copy(order="K"))
        if probe.call or not isinstance(y, Tensor):
            return x, modules[at:]
        x = y.array
    return x, []


def _outputs(
    model: Module, x: Array, generators: Callable[[int], Generator], T: int
) -> Iterator[tuple[Generator, Any]]:
    """The generator and the output of each pass, in order."""
    value, modules = _shared(model, x)
    layer: Any = modules[0] if modules and _is_one_mask(modules[0], value) else None
    group = max(1, min(T, GROUP // max(value.nbytes, 1)))
    for start in range(0, T, group):
        passes = [generators(t) for t in range(start, min(start + group, T))]
        inputs: Any
        if layer is None:
            inputs = (value.copy(order="K") for _ in passes)
        else:
            shape = _MASK_SHAPES[layer._function](layer, value.shape)
            masks = [rng.mask(shape, layer.p).broadcast_to(value.shape) for rng in passes]
            inputs = apply_masks(masks, value, scale=1.0 if getattr(layer, "scaling", None) == "standard" else None)
        for rng, own in zip(passes, inputs, strict=True):
            with _masks_from(model, rng):
                output = _run(modules[layer is not None :], own)
            yield rng, output


def mc_predict(
    model: Module,
    x: Any,
    T: int = 50,
    seed: Seed | None = None,
    *,
    kind: str = "regression",
    batch_size: int | None = None,
    return_samples: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> MCPrediction:
    r"""Predict T times with dropout at work: the mean, and how far the passes disagree.

    With :math:`f_t(x)` the model's output under the masks of pass t, ``"regression"`` gives

    .. math:: \bar f = \frac1T \sum_t f_t(x), \qquad \mathrm{var} = \frac1{T-1} \sum_t (f_t(x) - \bar f)^2 .

    For ``"classification"`` :math:`f_t` is the softmax :math:`p_t` of the model's output, and with the entropy
    :math:`H(p) = -\sum_c p_c \log p_c` in nats there are the predictive entropy :math:`H(\bar p)`, the expected entropy
    :math:`\frac1T \sum_t H(p_t)`, and their difference, the mutual information of prediction and weights (BALD).

    Parameters
    ----------
    model : Module
        Run as inside `mc_dropout`; the mode of each module is restored.
    x : ndarray or Tensor
        What the model takes; it is not changed.
    T : int, default 50
        The number of passes. The memory needed does not grow with it, unless samples are returned.
    seed : int, sequence of int or numpy.random.SeedSequence, optional
        Names the passes, with their numbers; by default one drawn from `fastdrop.default_generator()`.
    kind : {"regression", "classification"}
        What the outputs are: numbers, or logits (log-probabilities too) of shape (N, C) or (N, C, d1, ...).
    batch_size : int, optional
        Examples, along the first axis of x, that are run at once; all of them if not given.
    return_samples : bool, default False
        Keep the outputs of all passes too.
    progress : callable, optional
        Called after each pass of each batch with how many are done and how many there are.

    Returns
    -------
    MCPrediction

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, the model gives no Tensor or array, logits have a wrong
        rank; or the model has no dropout, so that all passes would be equal.

    Notes
    -----
    Pass t alone, ``with mc_dropout(model, seed, t): model(x)``, gives bit for bit the output that entered the average,
    whatever T is, for an x that is dense in memory. With `batch_size` the same holds for the model called on each batch
    in turn inside the one block. Other batch sizes are other passes, of the same distribution: a layer cannot know
    which rows of the whole it sees, nor do matrix products round alike for other shapes. NaN in an output, and Inf, is
    NaN in the results.

    Where the model is a `Sequential` (or several, nested) and its first modules are fastdrop's own, those before the
    first that drops run once for all passes, and the masks of a dropout layer there are applied in groups, in one read
    of its input, with at most 32 MiB of outputs. That does not show in the results.

    References
    ----------
    Gal, Ghahramani, "Dropout as a Bayesian approximation", ICML 2016. Houlsby, Huszár, Ghahramani, Lengyel, "Bayesian
    active learning for classification and preference learning", arXiv:1112.5745 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    >>> found = nn.mc_predict(model, np.full((1, 2), 3, np.float32), T=1000, seed=0)
    >>> found.mean.round(1), found.variance.round(1)
    (array([[3. , 2.8]]), array([[9., 9.]]))
    >>> with nn.mc_dropout(model, seed=0, t=7):
    ...     model(np.full((1, 2), 3, np.float32))
    tensor([[0., 0.]])
    """
    _check_model(model)
    T = check_int("T", T, 1, 2**32)
    if not isinstance(kind, str) or kind not in ("regression", "classification"):
        raise ValueError(f"kind has to be 'regression' or 'classification', but got {shown(kind)}")
    check_flags(return_samples=return_samples)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress has to be a function of two numbers or None, but got {shown(progress)}")
    array = named_tensor(x, "x").array
    batches = [array]
    if batch_size is not None:
        size = check_int("batch_size", batch_size, 1, 2**63 - 1)
        if array.ndim == 0:
            raise ValueError("x has to have an axis of examples for batch_size, but has none")
        batches = [array[start : start + size] for start in range(0, max(len(array), 1), size)]
    if seed is None:
        with refunding(default_generator()) as rng:
            drawn = int(rng.numpy().integers(2**63))
            return mc_predict(
                model, x, T, drawn, kind=kind, batch_size=batch_size, return_samples=return_samples, progress=progress
            )
    seq = _seed_sequence(seed)
    calls = np.zeros(T if len(batches) > 1 else 0, np.uint64)  # where each pass goes on with the next batch

    def generator(t: int) -> Generator:
        rng = _pass_generator(seq, t)
        if len(calls) and calls[t]:
            rng.state = {**rng.state, "call": int(calls[t])}
        return rng

    done: list[Sums] = []
    with mc_dropout(model):
        for batch in batches:
            sums = Sums(kind, T, return_samples)
            done.append(sums)
            for t, (rng, output) in enumerate(_outputs(model, batch, generator, T)):
                if not rng.call and not any(isinstance(module, DropoutBase) for module in model.modules()):
                    raise ValueError("the model has no dropout: it drew no mask, and all passes would be equal")
                if len(calls):
                    calls[t] = rng.call
                sums.add(_checked(output, len(batch) if len(batches) > 1 else None))
                if progress is not None:
                    progress((len(done) - 1) * T + t + 1, len(batches) * T)
    results = [sums.results() for sums in done]
    return MCPrediction(
        **{name: _joined([result[name] for result in results], 0) for name in results[0]},
        samples=_joined([sums.samples for sums in done], 1) if return_samples else None,
        T=T,
        seed=seed,
    )


def _checked(output: Any, rows: int | None) -> Array:
    if not isinstance(output, (Tensor, np.ndarray)):
        raise TypeError(f"the model has to return a Tensor, but gave a {type(output).__name__}: wrap it in a Module")
    array = output.array if isinstance(output, Tensor) else output
    if rows is not None and array.shape[:1] != (rows,):
        raise ValueError(f"batch_size needs outputs with the examples first, ({rows}, ...), but got {array.shape}")
    return array


def _joined(parts: list[Any], axis: int) -> Array:
    return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis)
