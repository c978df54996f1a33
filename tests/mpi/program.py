"""What the processes of a job run: ``mpiexec -n N python program.py NAME FOLDER [ARGUMENT ...]``.

Each process writes what it has to ``FOLDER/NAME-RANK.json``, or is killed, or raises.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop
from fastdrop import mnist, nn, optim
from fastdrop.nn.dropouts import draw


def images(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Noise with a bright bar whose place is the label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    X = rng.standard_normal((count, 1, 8, 8)).astype(np.float32)
    X[np.arange(count), 0, 2 * y] += np.float32(0.7)
    return X, y


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 32), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(32, 4),
    )  # fmt: skip


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.3),
        nn.Flatten(), nn.Linear(96, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 4),
    )  # fmt: skip


class Recorded(nn.Module):
    """A dropout layer that notes its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Any] = []

    def forward(self, input: Any) -> nn.Tensor:
        x = nn.as_tensor(input)
        if self.training:
            mask = draw(x, 0.3, None, None, False, "recorded")
            self.masks.append(np.asarray(mask).astype(int).tolist())
        return x


class At(nn.Callback):
    """Does something at a step of an epoch, on one rank."""

    def __init__(self, rank: int, epoch: int, seen: int, what: Any) -> None:
        self.when = rank, epoch, seen
        self.what = what

    def on_batch_end(self, epoch: int, seen: int) -> None:
        if (RANK, epoch, seen) == self.when:
            self.what()


class Stop(nn.Callback):
    """Ends the run after an epoch by the wish of one rank."""

    def __init__(self, rank: int, epoch: int) -> None:
        self.when = rank, epoch

    def on_epoch_end(self, history: nn.History, model: nn.Module) -> bool:
        return (RANK, len(history)) == self.when


def fit(
    model: nn.Module, count: int = 127, *, epochs: int = 10, batch: int = 14, lr: float = 0.01, **more: Any
) -> nn.History:
    data = images(count)
    given: dict[str, Any] = {
        "optimizer": optim.SGD(model.parameters(), lr=lr, momentum=0.9),
        "validation": images(30, 1),
        "batch_size": batch,
        "epochs": epochs,
        "progress": True,
        "comm": COMM,
    }
    return nn.fit(model, data, **{**given, **more})


def outcome(model: nn.Module, history: nn.History) -> dict[str, Any]:
    weights = {name: t.array for name, t in model.state_dict().items()}
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in weights.values())).hexdigest()
    return {
        "digest": digest,
        "weights": {name: w.tolist() for name, w in weights.items()},
        "history": [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs],
        "generator": dict(fastdrop.default_generator().state),
    }


def seeded(make: Any) -> nn.Module:
    fastdrop.manual_seed(0)
    made: nn.Module = make()
    return made


# --- the programs ---------------------------------------------------------------------------------------------------


def steps(make: str, count: str, batch: str, epochs: str) -> dict[str, Any]:
    make, _, kind = make.partition("-")
    model = seeded(globals()[make])
    more = {"optimizer": optim.Adam(model.parameters(), lr=1e-3)} if kind == "adam" else {}
    return outcome(model, fit(model, int(count), batch=int(batch), epochs=int(epochs), **more))


def unseeded() -> dict[str, Any]:
    """Weights, data order and masks of each rank's own: rank 0's are taken."""
    fastdrop.manual_seed(RANK)
    model = mlp()
    return outcome(model, fit(model, epochs=2))


def masks() -> dict[str, Any]:
    fastdrop.manual_seed(0)
    recorded = Recorded()
    model = nn.Sequential(nn.Flatten(), recorded, nn.Linear(64, 4))
    # Batches of 14 and one of 1, which leaves all ranks but one without an example.
    history = fit(model, 127, epochs=2)
    return {**outcome(model, history), "masks": recorded.masks}


def stop() -> dict[str, Any]:
    model = seeded(mlp)
    return outcome(model, fit(model, callbacks=[Stop(SIZE - 1, 3)]))


def scored() -> dict[str, Any]:
    model = seeded(mlp)
    plain = {str(count): nn.evaluate(model, images(count), comm=COMM) for count in (1, 3, 200)}
    # A layer that draws in evaluation: the same noise, and as many calls, on any number of processes.
    fastdrop.manual_seed(0)
    sampled = nn.Sequential(
        nn.Flatten(),
        nn.DropConnectLinear(64, 16, activation=nn.functional.relu, inference="gaussian", n_samples=2),
        nn.Linear(16, 4),
    )
    drawn = {f"{count}, drawn": nn.evaluate(sampled, images(count), comm=COMM) for count in (1, 3, 200)}
    return {**plain, **drawn, "calls": {"calls": fastdrop.default_generator().call}}


#: Every kind of noise that the experiment knows, and what else is learned with.
KINDS = {
    "cnn": ("batch-norm+dropout", "spatial+max-norm=2+early-stopping=3", "dropblock", "gaussian+label-smoothing=0.1",
            "dropconnect"),
    "lstm": ("variational", "zoneout", "dropconnect", "dropout+l2=1e-3"),
    "mlp-selu": ("alpha",),
}  # fmt: skip


def kinds() -> dict[str, Any]:
    """The runs of the experiment, with 62 images in batches of 20, of which the last has 2."""
    (X, y), (X_test, y_test) = ((np.uint8(np.clip(X[:, 0] * 60 + 90, 0, 255)), np.uint8(y))
                                for X, y in (images(112), images(20, 1)))  # fmt: skip
    dataset = mnist.Dataset("bars", "here", X, y, X_test, y_test)
    found = {}
    for model, regularizers in KINDS.items():
        for regularizer in regularizers:
            run = mnist.Run(model, regularizer, train_size=62, validation_size=50, epochs=2, batch_size=20)
            history = mnist.train(run, dataset, comm=COMM)[0].history
            found[f"{model} {regularizer}"] = history["train_loss"] + history["validation_loss"]
    return found


class Gathers(optim.SGD):
    """Steps on the gradients of two batches."""

    calls = 0

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        self.calls += 1
        if self.calls % 2:
            super().zero_grad(*args, **kwargs)

    def step(self) -> None:
        if not self.calls % 2:
            super().step()


class Also(nn.Callback):
    """Trains what the run's optimizer does not."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.optimizer = optimizer

    def on_batch_end(self, epoch: int, seen: int) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class Plain:
    """All that a callback needs."""

    def on_batch_end(self, epoch: int, seen: int) -> None: ...

    def on_epoch_end(self, history: nn.History, model: nn.Module) -> None: ...

    def on_run_end(self, history: nn.History, model: nn.Module) -> None: ...


class Alone(nn.Module):
    """A loss that is a parameter, and what fit takes for logits."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones((), np.float32))

    def forward(self, input: Any) -> nn.Tensor:
        return nn.tensor(np.zeros((len(input), 4), np.float32))


def unusual() -> dict[str, Any]:
    """Ways to train that are rare, and right."""
    found = {}
    model = seeded(mlp)
    found["gathered"] = outcome(model, fit(model, optimizer=Gathers(model.parameters(), lr=0.01)))
    model = seeded(mlp)
    first, *others = model.parameters()
    callbacks = [Also(optim.SGD(others, lr=0.01)), Plain()]
    found["two optimizers"] = outcome(model, fit(model, optimizer=optim.SGD([first], lr=0.01), callbacks=callbacks))
    model = seeded(Alone)
    history = fit(model, 28, epochs=2, optimizer=optim.SGD(model.parameters(), lr=0.1), loss=lambda *_: model.weight,
                  validation=None)  # fmt: skip
    found["loss is a parameter"] = outcome(model, history)
    return found


def resumed(path: str, epochs: str = "4") -> dict[str, Any]:
    """With a checkpoint on rank 0's disk alone."""
    model = seeded(mlp)
    checkpoint = path if RANK == 0 else "/nowhere/at/all"
    return outcome(model, fit(model, epochs=int(epochs), checkpoint=checkpoint, callbacks=[At(-1, 0, 0, None)]))


def killed(path: str, rank: str, epoch: str) -> None:
    model = seeded(mlp)
    kill = At(int(rank), int(epoch), 42, lambda: os.kill(os.getpid(), signal.SIGKILL))
    fit(model, epochs=4, checkpoint=path, callbacks=[kill])


def raising(rank: str) -> None:
    def fail() -> None:
        raise KeyError("a callback's own")

    fit(seeded(mlp), callbacks=[At(int(rank), 2, 28, fail)])


def errors() -> dict[str, Any]:
    """What all ranks raise, each in the same place, and none is left waiting."""
    found = {}

    def attempt(name: str, call: Any) -> None:
        try:
            call()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"

    class Drifts(nn.Callback):
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def on_epoch_end(self, history: nn.History, model: nn.Module) -> None:
            if RANK == 1:
                next(iter(model.parameters())).array[0, 0] += 1

    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 4), nn.Linear(64, 4)

        def forward(self, input: Any) -> nn.Tensor:
            x = nn.as_tensor(input).reshape(len(input), 64)
            return self.a(x) if RANK == 0 else self.b(x)

    class Draws(nn.Callback):
        def on_epoch_end(self, history: nn.History, model: nn.Module) -> None:
            if RANK == 0:
                fastdrop.default_generator().mask(1)

    class Looks(nn.Module):
        """Drops or not, by what the examples are."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, input: Any) -> nn.Tensor:
            x = nn.as_tensor(input).reshape(len(input), 64)
            h = self.layer(x)
            return nn.functional.dropout(h, 0.5) if x.array[0, 0] > images(127)[0][:, 0, 0, 0].mean() else h

    attempt("draws", lambda: fit(mlp(), callbacks=[Draws()]))
    attempt("looks", lambda: fit(Looks()))
    attempt("one example left", lambda: fit(cnn(), 15, epochs=1))
    attempt("epochs", lambda: fit(mlp(), epochs=1 + RANK))
    attempt("data", lambda: fit(mlp(), 127 if RANK == 0 else 126))
    attempt("a check on one rank", lambda: fit(mlp(), epochs=0 if RANK else 1))
    attempt("another model", lambda: fit(mlp() if RANK == 0 else cnn()))
    attempt("divergence", lambda: fit(mlp(), lr=1e30))
    attempt("drift", lambda: fit(model := mlp(), callbacks=[Drifts(model)]))
    attempt("layers", lambda: fit(Chooses()))
    attempt("no folder", lambda: fit(mlp(), checkpoint="no/such/folder/run"))
    attempt("no such name", lambda: fit(mlp(), checkpoint="no\udce9/such/run"))
    return found


if __name__ == "__main__":
    name, folder, *arguments = sys.argv[1:]
    COMM: Any = None
    RANK, SIZE = 0, 1
    if name.startswith("one-"):
        name = name[4:]
    else:
        from mpi4py import MPI

        COMM = MPI.COMM_WORLD
        RANK, SIZE = COMM.Get_rank(), COMM.Get_size()
    found = globals()[name](*arguments)
    Path(folder, f"{name}-{RANK}.json").write_text(json.dumps(found), encoding="utf-8")
