"""fastdrop.torch: what is wrong there, beside what PyTorch itself refuses."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")

import fastdrop as fd  # noqa: E402
import fastdrop.torch  # noqa: E402
from fastdrop.torch import functional as F  # noqa: E402
from trust.sweep.target import Target  # noqa: E402
from trust.sweep.torch_targets import TARGETS  # noqa: E402

from .check import Row, Wrong, always, refuses_crossed, refuses_row  # noqa: E402
from .crossed import CROSSED  # noqa: E402

NAMES = ("p", "dropout_p", "generator", "training", "inplace", "batch_first", "per_example", "block_size", "mode")
#: "is_causal" and the like are PyTorch's, as are these where PyTorch's own functions look at them.
PYTORCH = {"torch.scaled_dot_product_attention": ("generator",)}


KIND = r"shard has to be a fastdrop\.Shard, a sequence of them or None"
SHARDS = (
    Wrong("a rank", always(1), TypeError, (KIND, "got 1")),
    Wrong("axis, rank and size", always((0, 1, 2)), TypeError, (KIND, r"got \(0, 1, 2\)")),
    Wrong("a word", always("batch"), TypeError, (KIND, "got 'batch'")),
    Wrong("the class", always(fd.Shard), TypeError, (KIND, "got <class")),
    Wrong("one and none", always([fd.Shard(0, 0, 2), None]), TypeError, (KIND, r"got \[Shard\(axis=0")),
    Wrong("places", always({0: (1, 1, 2)}), TypeError, (KIND, r"got \{0: \(1, 1, 2\)\}")),
    Wrong("a tensor", lambda *_: torch.ones(3), TypeError, (KIND, r"got tensor\(")),
)
#: What only the input tells to be wrong.
UNFIT = (
    Wrong(
        "another axis",
        always(fd.Shard(9, 0, 2)),
        ValueError,
        (r"Shard\(axis=9", "axis that a tensor of . axes does not"),
    ),
    Wrong(
        "of 2**63",
        always(fd.Shard(0, 0, 2**62)),
        ValueError,
        ("shard", r"fewer than 2\*\*63 elements", r"got one of shape \(\d{17}"),
    ),
    Wrong(
        "of another extent",
        always(fd.Shard(0, 1, (5, 99))),
        ValueError,
        (r"Shard\(axis=0", "99 elements long", "the tensor has . along"),
    ),
    Wrong(
        "one axis twice",
        always((fd.Shard(0, 0, 2), fd.Shard(0, 1, 2))),
        ValueError,
        ("shard has to name each axis once", "axis=0"),
    ),
)


#: Those that drop something if nothing else is said.
ON_BY_DEFAULT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "drop_path", "locked_dropout", "drop_block2d")


def kinds(target: Target) -> list[tuple[str, Wrong]]:
    if "shard" not in target.parameters:
        return crossed_kinds(target)
    calls = target.name in ("torch.dropconnect", *(f"torch.{name}" for name in ON_BY_DEFAULT))
    return [*crossed_kinds(target), *(("shard", wrong) for wrong in (*SHARDS, *(UNFIT if calls else ())))]


def crossed_kinds(target: Target) -> list[tuple[str, Wrong]]:
    return [
        (name, wrong)
        for names, rows, _ in CROSSED
        for name in names
        for wrong in rows
        if name in NAMES and name in target.parameters and name not in PYTORCH.get(target.name, ())
    ]


@pytest.mark.parametrize("target", [pytest.param(t, id=t.name) for t in TARGETS if kinds(t)])
def test_wrong_arguments(target: Target) -> None:
    told = []
    for name, wrong in kinds(target):
        try:
            refuses_crossed(target, name, wrong)
        except BaseException as error:
            told.append(f"{name}: {wrong.what}: {type(error).__name__}: {error}")
    assert not told, "\n".join(told)


def x(*shape: int, **options: Any) -> Any:
    return lambda: torch.ones(shape, **options)


def rng() -> fd.Generator:
    return fd.Generator(3)


ROWS = (
    Row(
        "a generator for ints",
        {"x": x(3, dtype=torch.int64), "rng": rng},
        lambda x, rng: F.dropout(x, generator=rng),
        ValueError,
        ("generator", "int64", "floating tensors on the CPU"),
    ),
    Row(
        "an array for a tensor",
        {"rng": rng},
        lambda rng: F.dropout([1.0], generator=rng),
        TypeError,
        ("input", "list", "Tensor"),
    ),
    Row(
        "PyTorch's generator",
        {"x": x(3)},
        lambda x: F.dropout(x, generator=torch.Generator()),
        TypeError,
        ("generator", "Generator", "fastdrop.Generator"),
    ),
    Row(
        "an array for weights",
        {"x": x(2, 6)},
        lambda x: F.dropconnect(x, [[1.0] * 6]),
        TypeError,
        ("weight", r"\[\[1\.0", "Tensor"),
    ),
    Row(
        "ints for weights",
        {"x": x(2, 6), "w": x(3, 6, dtype=torch.int64)},
        lambda x, w: F.dropconnect(x, w),
        TypeError,
        ("weight", "int64", "floating"),
    ),
    Row(
        "a word for a bias",
        {"x": x(2, 6), "w": x(3, 6)},
        lambda x, w: F.dropconnect(x, w, "b"),
        TypeError,
        ("bias", "'b'", "Tensor"),
    ),
    Row(
        "a leaf in place",
        {"x": x(3, requires_grad=True)},
        lambda x: F.dropout(x, inplace=True),
        RuntimeError,
        ("leaf", "in-place"),
    ),
    Row(
        "a part of ints",
        {"x": x(3, dtype=torch.int64)},
        lambda x: F.dropout(x, shard=fd.Shard(0, 0, 2)),
        ValueError,
        ("shard", "int64", "floating tensors on the CPU"),
    ),
    Row(
        "a part of a map, for blocks",
        {"x": x(2, 3, 8, 8)},
        lambda x: F.drop_block2d(x, shard=fd.Shard(2, 0, 2)),
        ValueError,
        ("shard", r"axis=2", "examples or channels"),
    ),
    Row(
        "a part of the keys",
        {"x": x(2, 3, 8)},
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, shard=fd.Shard(2, 0, 2)),
        ValueError,
        ("shard", r"axis=2", "batch, of heads or of queries"),
    ),
    Row(
        "examples that lie apart, for DropConnect",
        {"x": x(2, 3, 8), "w": x(4, 8)},
        lambda x, w: F.dropconnect(x, w, shard=fd.Shard(1, 0, 2)),
        ValueError,
        ("shard", r"\{1: Place", r"give it as \(examples, 8\)"),
    ),
    Row(
        "another mode",
        {"x": x(3)},
        lambda x: F.drop_path(x, mode="column"),
        ValueError,
        ("mode", "'column'", "'row' or 'batch'"),
    ),
    Row(
        "locked, of one axis",
        {"x": x(3)},
        lambda x: F.locked_dropout(x),
        ValueError,
        ("locked_dropout", r"\(3,\)", "3 axes"),
    ),
    Row(
        "blocks, of two axes",
        {"x": x(3, 3)},
        lambda x: F.drop_block2d(x),
        ValueError,
        ("drop_block2d", r"\(3, 3\)", "3 or 4 axes"),
    ),
    Row(
        "a weight that is not there",
        {"m": lambda: torch.nn.Linear(2, 2)},
        lambda m: fastdrop.torch.WeightDrop(m, 0.5, ["w"]),
        ValueError,
        ("names", "'w'", "weight"),
    ),
    Row(
        "names that are one",
        {"m": lambda: torch.nn.Linear(2, 2)},
        lambda m: fastdrop.torch.WeightDrop(m, 0.5, "weight"),
        TypeError,
        ("names", "'weight'", "sequence"),
    ),
    Row(
        "a part for all, of ints",
        {},
        lambda: fastdrop.torch.enable(shard=(0, 1, 2)),
        TypeError,
        ("shard", r"\(0, 1, 2\)", "fastdrop.Shard"),
    ),
    Row(
        "contexts of nothing",
        {},
        lambda: fastdrop.torch.checkpoint_contexts(None),
        TypeError,
        ("generator", "None", "fastdrop.Generator"),
    ),
    Row(
        "contexts of PyTorch's",
        {},
        lambda: fastdrop.torch.checkpoint_contexts(torch.Generator()),
        TypeError,
        ("generator", "Generator", "fastdrop.Generator"),
    ),
    Row(
        "a function to accelerate",
        {},
        lambda: fastdrop.torch.accelerate(len),
        TypeError,
        ("model", "builtin", "Module"),
    ),
    Row(
        "a model of fastdrop.nn to accelerate",
        {"m": lambda: fastdrop.nn.Dropout()},
        lambda m: fastdrop.torch.accelerate(m),
        TypeError,
        ("model", "Dropout", "Module"),
    ),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_a_wrong_call(row: Row) -> None:
    refuses_row(row)


def test_the_wrong_order() -> None:
    original = torch.nn.functional.dropout
    fastdrop.torch.disable()  # never enabled: nothing to undo
    assert torch.nn.functional.dropout is original
    with fastdrop.torch.enabled():
        fastdrop.torch.enable()  # twice is once
        assert torch.nn.functional.dropout is not original
        fastdrop.torch.disable()
    assert torch.nn.functional.dropout is original
