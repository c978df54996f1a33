"""Runs for the tests of checkpoints, made anew as a new process would make them; some are killed."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop import nn, optim
from fastdrop.nn.state_file import write_state


def blobs(count=90, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return (y[:, None] + rng.standard_normal((count, 4))).astype(dtype), y


class Tied(nn.Module):
    """Two layers with one weight, a buffer that counts, a 0-d parameter, and one that is not contiguous."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.gain = nn.Parameter(np.array(1.5, np.float32))
        self.out = nn.Parameter(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4).T)
        self.register_buffer("calls", nn.Tensor(np.zeros((), np.int64)))
        self.drop = nn.Dropout(0.3, generator=fastdrop.Generator(5))
        self.noise = [np.random.default_rng(3)]

    def forward(self, x):
        if self.training:
            self.calls.array += 1
            x = x + nn.Tensor(self.noise[0].standard_normal(x.shape).astype(x.dtype)) * 0.1
        return (self.b(self.drop(nn.relu(self.a(x)))) * self.gain) @ self.out


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


def with_batch_norm():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


def shared_generator():
    rng = fastdrop.Generator(11)
    layers = nn.Dropout(0.2, generator=rng), nn.Linear(4, 8), nn.Dropout(0.4, generator=rng), nn.Linear(8, 3)
    return nn.Sequential(*layers)


def own_generator():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.4, generator=fastdrop.Generator(1)), nn.Linear(8, 3))


class Jitter(nn.Callback):
    """A callback with a generator and a state of its own, on both of which the weights depend."""

    def __init__(self):
        self.rng = fastdrop.Generator(9)
        self.seen = {}
        self.mean = None

    def on_batch_end(self, epoch, seen):
        self.seen[epoch, seen] = float(self.rng.numpy().random())

    def on_epoch_end(self, history, model):
        weights = [p.array for p in model.parameters()]
        self.mean = [w / 2 if self.mean is None else (w + m) / 2 for w, m in zip(weights, self.mean or weights)]
        for w, m in zip(weights, self.mean):
            w += (m * sum(self.seen.values()) * 1e-4).astype(w.dtype)

    def state_dict(self):
        return {"seen": self.seen, "mean": self.mean}

    def load_state_dict(self, state):
        self.seen, self.mean = state["seen"], state["mean"]


class Halve(nn.Callback):
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def on_epoch_end(self, history, model):
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.7


class Killed(BaseException):
    """What a test interrupts a run with."""


class KillAt(nn.Callback):
    """Interrupts at one step of one epoch, or at its end. Always there, for a run goes on with the same callbacks."""

    def __init__(self, epoch=None, seen=None):
        self.epoch, self.seen = epoch, seen

    def on_batch_end(self, epoch, seen):
        if epoch == self.epoch and self.seen is not None and seen >= self.seen:
            raise Killed

    def on_epoch_end(self, history, model):
        if len(history) == self.epoch and self.seen is None:
            raise Killed


def sgd(model):
    return optim.SGD(model.parameters(), lr=0.1)


def momentum(model):
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)


def adam(model):
    return optim.Adam(model.parameters(), lr=0.01, amsgrad=True)


def adamw_in_groups(model):
    first, *rest = model.parameters()
    return optim.AdamW([{"params": [first], "lr": np.float32(0.02)}, {"params": rest, "betas": (0.8, 0.99)}])


class Run:
    """One run, made anew as a new process would make it; `go` trains, and everything that decides is compared."""

    def __init__(self, make=mlp, optimizer=adam, *, dtype=None, own_order=False, patience=50, kill=(), seed=0):
        fastdrop.manual_seed(seed)
        self.model = make()
        if dtype is not None:
            self.model.to(dtype)
        self.data, self.validation = blobs(dtype=dtype or np.float32), blobs(30, 1, dtype or np.float32)
        self.optimizer = optimizer(self.model)
        self.order = fastdrop.Generator(7) if own_order else None
        self.stop = nn.EarlyStopping("val_loss", patience=patience)
        self.callbacks = [self.stop, Jitter(), Halve(self.optimizer), KillAt(*kill)]

    def go(self, path=None, **options):
        self.history = nn.fit(
            self.model,
            self.data,
            **{
                "validation": self.validation,
                "epochs": 5,
                "optimizer": self.optimizer,
                "batch_size": 32,
                "generator": self.order,
                "callbacks": self.callbacks,
                "progress": False,
                "checkpoint": path,
                **options,
            },
        )
        return self

    def everything(self):
        generators = [fastdrop.default_generator(), self.order, self.callbacks[1].rng]
        generators += [g for m in self.model.modules() if (g := getattr(m, "generator", None)) is not None]
        stop = {key: value for key, value in vars(self.stop).items() if key != "_weights"}
        return {
            "weights": {name: t.array for name, t in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "generators": [g and g.state for g in generators],
            "callbacks": [stop, self.callbacks[1].state_dict()],
            "best": self.stop.state_dict()["weights"],
            "history": [
                {k: v for k, v in epoch.items() if k != "seconds"}
                for epoch in (self.history.epochs if hasattr(self, "history") else [])
            ],
        }


def assert_same(a, b, where="state"):
    """Equal in type, structure and bits."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, (np.ndarray, np.generic)):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), where
    elif isinstance(a, nn.Tensor):
        assert_same(a.array, b.array, where)
    elif isinstance(a, float):
        assert (a.hex()) == b.hex(), where
    else:
        assert a == b, where


def copied(state):
    return json.loads(json.dumps(state, default=lambda a: a.tobytes().hex()))


def run_state(run):
    return {
        "weights": {name: t.array for name, t in run.model.state_dict().items()},
        "optimizer": run.optimizer.state_dict(),
        "generators": [fastdrop.default_generator().state, run.order and run.order.state],
        "callbacks": [{k: repr(v) for k, v in vars(c).items()} for c in run.callbacks],
    }


# --- for processes of their own: called by name, with strings ---


def trained(checkpoint, result):
    run = Run(patience=30)
    run.go(checkpoint or None, epochs=12, batch_size=4)
    write_state(result, run.everything())


def killed_while_writing(checkpoint, where, count):
    """Train, and die at one place of the `count`-th writing from now."""
    left = int(count)

    def die():
        nonlocal left
        left -= 1
        return not left and os.kill(os.getpid(), signal.SIGKILL)

    write, replace = Path.write_bytes, os.replace

    def half(path, content):
        if where == "half":
            write(path, content[: len(content) // 2])
            die()
        return write(path, content)

    def renamed(*paths):
        if where == "before":
            die()
        replace(*paths)
        if where == "after":
            die()

    Path.write_bytes, os.replace = half, renamed
    Run().go(checkpoint)


def with_a_small_disk(checkpoint):
    import resource  # not on Windows

    Run().go(checkpoint, epochs=2)
    path = Path(checkpoint)
    before = path.read_bytes()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, most))
    with pytest.raises(OSError, match=f"cannot write the checkpoint: File too large: '{path}'"):
        Run().go(checkpoint)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
