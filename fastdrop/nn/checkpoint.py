"""`Checkpoint`: all that decides how a run of `fit` goes on, in a file that is written after each epoch.

The same bytes tell the other processes of a run how to begin.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastdrop
from fastdrop._core import Generator
from fastdrop._extra import extra
from fastdrop._files import remove_parts
from fastdrop.nn.autograd import Array
from fastdrop.nn.module import Module
from fastdrop.nn.state_file import pack, pack_state, read_state, unpack_state, write_state

if TYPE_CHECKING:
    from fastdrop.nn.tensor import Tensor
    from fastdrop.nn.train import Callback
    from fastdrop.optim import Optimizer

__all__ = ["Checkpoint", "Reached"]

NONE = "none"


class Reached(NamedTuple):
    """How far a run has come."""

    epoch: int
    stopped: bool
    history: list[dict[str, Any]]
    order: np.random.Generator


class Checkpoint:
    """The state of one run of `fit`, to be saved to a file and restored from it.

    Parameters
    ----------
    path : path_like or None
        None for a state that is not kept.
    model, loss, optimizer, generator, callbacks
        As of `fit`; a loss that is a Module is saved like the model.
    facts : dict
        Plain data by the words for it: a file is only taken where all of it is the same.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        model: Module,
        loss: Any,
        optimizer: Optimizer,
        generator: Generator | None,
        callbacks: Sequence[Callback],
        facts: dict[str, Any],
    ) -> None:
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint has to be a path or None, but got a {type(path).__name__}")
        self.path = None if path is None else Path(path)
        self.modules = {"model": model, **({"loss": loss} if isinstance(loss, Module) else {})}
        self.optimizer = optimizer
        self.generator = fastdrop.default_generator() if generator is None else generator
        self.callbacks = list(callbacks)
        self.facts = facts
        # Of the start, because a callback may seed again.
        self.keys = {place: g.key for place, g in self._generators().items() if isinstance(g, Generator)}

    # --- what there is to save ----------------------------------------------------------------------------------

    def _generators(self) -> dict[str, Any]:
        """Every place that holds a generator; one generator may be in several."""
        found: dict[str, Any] = {"default": fastdrop.default_generator(), "order": self.generator}
        seen: set[int] = set()

        def walk(place: str, value: Any) -> None:
            if isinstance(value, (Generator, np.random.Generator)):
                found[place] = value
            elif isinstance(value, (Module, dict, list, tuple)) and id(value) not in seen:
                seen.add(id(value))
                if isinstance(value, Module):
                    attributes(place, value)
                else:
                    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                        walk(f"{place}[{key!r}]", item)

        def attributes(place: str, owner: Any) -> None:
            for name, value in getattr(owner, "__dict__", {}).items():
                if name == "_modules" and isinstance(owner, Module):
                    for child, module in value.items():
                        walk(f"{place}.{child}", module)
                else:
                    walk(f"{place}.{name}", value)

        for root, module in self.modules.items():
            walk(root, module)
        for i, callback in enumerate(self.callbacks):
            attributes(f"callbacks[{i}]", callback)
        return found

    def _weights(self) -> dict[str, Tensor]:
        return {
            f"{root}.{name}": tensor
            for root, module in self.modules.items()
            for name, tensor in module.state_dict().items()
        }

    def _others(self) -> dict[str, Tensor]:
        """What the optimizer trains and no module holds, by its position."""
        held = {id(p) for module in self.modules.values() for p in module.parameters()}
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {str(i): p for i, p in enumerate(params) if id(p) not in held}

    def _identity(self) -> dict[str, Any]:
        """What has to be the same in a run that goes on, by the words for it."""
        result = dict(self.facts)
        first: dict[Any, str] = {}
        for name, tensor in self._weights().items():
            array = tensor.array
            tied = first.setdefault(_memory(array), name) if array.size else name
            result[name] = f"{array.dtype} {array.shape}" + (f", the same as {tied}" if tied != name else "")
        names = {id(p): f"{r}.{name}" for r, module in self.modules.items() for name, p in module.named_parameters()}
        result["the optimizer"] = type(self.optimizer).__qualname__
        for i, group in enumerate(self.optimizer.param_groups):
            result[f"group {i} of the optimizer"] = [
                names.get(id(p), f"{p.array.dtype} {p.array.shape}") for p in group["params"]
            ]
        for i, callback in enumerate(self.callbacks):
            result[f"callbacks[{i}]"] = type(callback).__qualname__
        places: dict[int, str] = {}
        for place, generator in self._generators().items():
            held = places.setdefault(id(generator), place)
            kind = generator if isinstance(generator, Generator) else generator.bit_generator
            result[f"the generator {place}"] = type(kind).__name__ + (f", the same as {held}" if held != place else "")
        return result

    def _state(self, reached: Reached | None) -> dict[str, Any]:
        generators: dict[str, tuple[Any, dict[str, Any]]] = {}
        for place, generator in self._generators().items():
            if not any(generator is other for other, _ in generators.values()):
                generators[place] = (generator, _state_of(generator))
        return {
            "run": self._identity(),
            "keys": self.keys,
            "epoch": reached.epoch if reached else 0,
            "stopped": reached.stopped if reached else False,
            "history": reached.history if reached else [],
            "order": _state_of(reached.order) if reached else None,
            "generators": {place: state for place, (_, state) in generators.items()},
            "weights": self._weights_once(),
            "others": {name: p.array for name, p in self._others().items()},
            "optimizer": self.optimizer.state_dict(),
            "callbacks": [_state_of_callback(callback) for callback in self.callbacks],
        }

    def _weights_once(self) -> dict[str, Array]:
        """The arrays of the modules; tied ones under their first name."""
        first: dict[Any, str] = {}
        weights = {name: tensor.array for name, tensor in self._weights().items()}
        return {
            name: array
            for name, array in weights.items()
            if not array.size or first.setdefault(_memory(array), name) == name
        }

    # --- saving and restoring -----------------------------------------------------------------------------------

    def save(self, reached: Reached) -> None:
        """Write the file, where there is to be one; OSError, naming it, leaves the one before."""
        if self.path is not None:
            write_state(self.path, self._state(reached))

    def restore(self, epochs: int) -> Reached | None:
        """Put everything as the file says; None where there is none yet.

        Parameters
        ----------
        epochs : int
            How many the run is to have.

        Raises
        ------
        ValueError
            Naming the file, if it is damaged or belongs to another run; nothing is changed then.
        TypeError, OSError, ImportError
            If there is no file, and what it would have to hold cannot be saved, or it could not be written.
        """
        if self.path is None:
            return None
        extra("safetensors.numpy", "nn")
        remove_parts(self.path)
        if not self.path.exists():
            for key, value in self._state(None).items():
                pack(value, key, {})
            _check_folder(self.path)
            return None
        state = read_state(self.path)
        if not state.get("stopped") and state.get("epoch") != epochs:
            _check_folder(self.path)
        try:
            self._compare(state, epochs)
            return self._adopt(state)
        except _Differs as error:
            raise ValueError(f"{self.path} belongs to another run: {error}; remove it to begin anew") from None
        except Exception as error:
            raise ValueError(f"{self.path} does not fit this run: {type(error).__name__}: {error}") from error

    def packed(self, reached: Reached | None) -> bytes:
        """The state for `take`; of a run that begins, callbacks have theirs already, and keep it."""
        state = self._state(reached)
        return pack_state(state if reached else {**state, "callbacks": []}, "the state of this run")

    def take(self, content: bytes, name: str) -> Reached | None:
        """Put everything as `packed` says, generators' keys too; None where the run begins.

        Raises
        ------
        ValueError
            If it belongs to another run, which `name` names.
        """
        state = unpack_state(content, name)
        try:
            _refuse(self._differences(state))
            return self._adopt(state)
        except _Differs as error:
            raise ValueError(f"this run is not {name}: {error}") from None

    def digest(self) -> bytes:
        """Eight bytes that weights and generators which are not the same do not share.

        Not the generators of callbacks, which a process may have for itself.
        """
        found = hashlib.blake2b(digest_size=8)
        for array in (*self._weights_once().values(), *(p.array for p in self._others().values())):
            found.update(np.ascontiguousarray(array).data)
        for place, generator in self._generators().items():
            if not place.startswith("callbacks"):
                found.update(f"{place} {_state_of(generator)}".encode())
        return found.digest()

    def _adopt(self, state: dict[str, Any]) -> Reached | None:
        reached = None
        if state["order"] is not None:
            order = np.random.Generator(np.random.Philox(0))
            order.bit_generator.state = state["order"]
            reached = Reached(state["epoch"], state["stopped"], state["history"], order)
        with ExitStack() as undo:
            self._apply(state, undo)
            undo.pop_all()
        self.keys = state["keys"]
        return reached

    def _compare(self, state: dict[str, Any], epochs: int) -> None:
        differences = self._differences(state)
        for place, generator in self._generators().items():
            if isinstance(generator, Generator) and _seeded(generator):
                before = state["keys"].get(place)
                if before not in (None, self.keys[place]):
                    differences.append(
                        f"the generator {place} has the key {self.keys[place]}, and had {before}: another seed"
                    )
        if state["epoch"] > epochs:
            differences.append(f"epochs is {epochs}, and {state['epoch']} have been trained")
        _refuse(differences)

    def _differences(self, state: dict[str, Any]) -> list[str]:
        was, now = state["run"], self._identity()
        return [
            f"{name} is {now.get(name, NONE)}, and was {was.get(name, NONE)}"
            for name in {**was, **now}
            if was.get(name, NONE) != now.get(name, NONE)
        ]

    def _apply(self, state: dict[str, Any], undo: ExitStack) -> None:
        """Take over the state. Callbacks and optimizers may refuse theirs, so they come first, and can be undone."""
        for i, (callback, saved) in enumerate(zip(self.callbacks, state["callbacks"])):
            if not (saved or hasattr(callback, "load_state_dict")):
                continue
            undo.callback(callback.load_state_dict, _state_of_callback(callback))
            try:
                callback.load_state_dict(saved)
            except Exception as error:
                raise _Differs(f"callbacks[{i}], {type(callback).__qualname__}, refuses its state: {error}") from error
        undo.callback(self.optimizer.load_state_dict, self.optimizer.state_dict())
        self.optimizer.load_state_dict(state["optimizer"])
        generators = self._generators()
        for place, saved in state["generators"].items():
            undo.callback(_set_state, generators[place], _state_of(generators[place]))
            _set_state(generators[place], saved)
        for own, arrays in ((self._weights(), state["weights"]), (self._others(), state["others"])):
            for name, array in arrays.items():
                own[name].array[...] = array
                own[name].storage.version += 1


class _Differs(Exception):
    """What a file and a run do not have in common."""


def _refuse(differences: list[str]) -> None:
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise _Differs("; ".join(differences[:5]) + more)


def _check_folder(path: Path) -> None:
    """Better before the first epoch than after it."""
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, to write the checkpoint {path.name} to")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write a checkpoint here: {error.strerror}", str(folder)) from error


def _state_of_callback(callback: Callback) -> dict[str, Any]:
    """Its state; nothing, where an object only has what `fit` calls."""
    return callback.state_dict() if hasattr(callback, "state_dict") else {}


def _memory(array: Array) -> tuple[Any, ...]:
    return array.ctypes.data, array.shape, array.strides, array.dtype


def _seeded(generator: Generator) -> bool:
    """Whether someone has chosen the seed: fresh entropy has 128 bits, and says nothing about which run is meant."""
    entropy = generator.seed_seq.entropy
    return not isinstance(entropy, int) or entropy < 2**64


def _state_of(generator: Any) -> dict[str, Any]:
    return dict((generator if isinstance(generator, Generator) else generator.bit_generator).state)


def _set_state(generator: Any, state: dict[str, Any]) -> None:
    (generator if isinstance(generator, Generator) else generator.bit_generator).state = state
