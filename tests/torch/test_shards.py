"""shard=: parts put together are what one call on the whole gives, bit for bit, values and gradients."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import re

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Shard

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

F = ft.functional
# name, function, shape, axes that can be split
KINDS = {
    "dropout": (lambda x, **o: F.dropout(x, 0.5, **o), (4, 6, 5), (0, 1, 2)),
    "p=.1": (lambda x, **o: F.dropout(x, 0.1, **o), (12, 7), (0, 1)),
    "p=1": (lambda x, **o: F.dropout(x, 1.0, **o), (12, 7), (0, 1)),
    "1d": (lambda x, **o: F.dropout1d(x, 0.5, **o), (6, 8, 3), (0, 1, 2)),
    "1d alone": (lambda x, **o: F.dropout1d(x, 0.5, **o), (8, 3), (0, 1)),
    "2d": (lambda x, **o: F.dropout2d(x, 0.5, **o), (6, 8, 3, 2), (0, 1, 2, 3)),
    "3d": (lambda x, **o: F.dropout3d(x, 0.5, **o), (6, 8, 3, 2, 2), (0, 1, 2, 4)),
    "3d alone": (lambda x, **o: F.dropout3d(x, 0.5, **o), (8, 3, 2, 2), (0, 1, 2, 3)),
    "alpha": (lambda x, **o: F.alpha_dropout(x, 0.3, True, **o), (4, 6, 5), (0, 1, 2)),
    "feature alpha": (lambda x, **o: F.feature_alpha_dropout(x, 0.3, True, **o), (8, 6, 5), (0, 1, 2)),
    "path": (lambda x, **o: F.drop_path(x, 0.5, **o), (12, 4, 3), (0, 1, 2)),
    "path of all": (lambda x, **o: F.drop_path(x, 0.5, mode="batch", **o), (12, 4, 3), (0, 1, 2)),
    "locked": (lambda x, **o: F.locked_dropout(x, 0.5, **o), (6, 5, 8), (0, 1, 2)),
    "locked, batch first": (lambda x, **o: F.locked_dropout(x, 0.5, batch_first=True, **o), (6, 5, 8), (0, 1, 2)),
    "locked, alone": (lambda x, **o: F.locked_dropout(x, 0.5, **o), (6, 8), (0, 1)),
    "block": (lambda x, **o: F.drop_block2d(x, 0.3, 2, **o), (6, 4, 7, 6), (0, 1)),
    "block alone": (lambda x, **o: F.drop_block2d(x, 0.3, 2, **o), (6, 7, 6), (0,)),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def split(random, extent):
    """How an axis may be split: (rank -> Shard's arguments, rank -> slice), one pair per part."""
    size = int(random.integers(1, 4))
    how = random.integers(3)
    if how == 0 and extent % size == 0:
        n = extent // size
        return [((r, size), {}, slice(r * n, (r + 1) * n)) for r in range(size)]
    if how == 1 and extent % size == 0:
        return [((r, size), {"interleaved": True}, slice(r, None, size)) for r in range(size)]
    cuts = [0, *sorted(random.integers(0, extent + 1, size - 1).tolist()), extent]
    extents = [b - a for a, b in itertools.pairwise(cuts)]  # some of them may be 0
    return [((r, extents), {}, slice(cuts[r], cuts[r + 1])) for r in range(size)]


def parts(random, shape, axes):
    """All parts of a random grid: (shards, index)."""
    chosen = [int(a) for a in random.permutation(axes)[: random.integers(1, min(3, len(axes)) + 1)]]
    for choice in itertools.product(*(split(random, shape[a]) for a in chosen)):
        index = [slice(None)] * len(shape)
        shards = []
        for axis, (args, options, taken) in zip(chosen, choice):
            index[axis] = taken
            shards.append(Shard(axis - len(shape) * int(random.integers(2)), *args, **options))
        yield (shards[0] if len(shards) == 1 else shards), tuple(index)


@pytest.mark.parametrize("seed", range(4))
@each_kind
def test_parts_make_the_whole(kind, seed):
    function, shape, axes = kind
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.standard_normal(shape)).requires_grad_()
    g = torch.from_numpy(random.standard_normal(shape))
    for own in (True, False):
        generators = itertools.repeat(None) if not own else iter(lambda: fd.Generator(seed), None)
        torch.manual_seed(seed)
        y = function(x, generator=next(generators))
        after = torch.get_rng_state()
        (dx,) = torch.autograd.grad(y, x, g)
        for shard, index in parts(random, shape, axes):
            torch.manual_seed(seed)
            part = function(x[index], generator=next(generators), shard=shard)
            assert torch.equal(part, y[index]), shard
            assert torch.equal(torch.get_rng_state(), after)  # a part without elements draws too
            (found,) = torch.autograd.grad(part, x, g[index])
            expected = torch.zeros_like(x)
            expected[index] = dx[index]
            assert torch.equal(found, expected), shard


@each_kind
def test_modes_and_wholes_that_draw_nothing(kind):
    function, shape, _ = kind
    rng = fd.Generator(0)
    empty = torch.ones(0, *shape[1:])
    assert function(empty, generator=rng, shard=Shard(0, 1, 2)) is empty  # nobody has an element
    assert rng.call == 0
    function(empty, generator=rng, shard=Shard(0, 1, (2, 0)))
    assert rng.call == 1
    y = function(torch.ones(shape), generator=fd.Generator(0), shard=[])
    assert torch.equal(y, function(torch.ones(shape), generator=fd.Generator(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_layouts_and_in_place(dtype):
    whole = torch.randn(8, 6, 4).to(dtype)
    y = F.dropout(whole, 0.3, generator=fd.Generator(1))
    shard = [Shard(0, 1, 2, interleaved=True), Shard(2, 1, 2)]
    expected = y[1::2, :, 2:]
    x = whole[1::2, :, 2:]
    for same in (x, x.contiguous(), x.transpose(0, 2).contiguous().transpose(0, 2)):
        assert torch.equal(F.dropout(same, 0.3, generator=fd.Generator(1), shard=shard), expected)
    written = x.clone()
    assert F.dropout(written, 0.3, inplace=True, generator=fd.Generator(1), shard=shard) is written
    assert torch.equal(written, expected)


def test_far_away():
    """Parts of wholes that are larger than any memory."""
    shard = [Shard(0, 2**20 - 1, 2**20), Shard(1, 3, 2**30)]
    y = F.dropout(torch.ones(4, 64), 0.5, generator=fd.Generator(1), shard=shard)
    mask = fd.Generator(1).mask((4 * 2**20, 64 * 2**30), 0.5)[-4:, 192:256]
    np.testing.assert_array_equal(y.numpy() != 0, np.asarray(mask))


# ---- attention ----


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"masked": True}, {"enable_gqa": True, "heads": 2}])
@pytest.mark.parametrize("seed", range(3))
def test_attention(options, seed):
    random = np.random.default_rng(seed)
    options = dict(options)
    heads = options.pop("heads", 4)
    q, k, v = (torch.from_numpy(random.standard_normal((4, h, n, 8))) for h, n in ((4, 6), (heads, 7), (heads, 7)))
    mask = torch.from_numpy(random.random((4, 1, 6, 7)) < 0.7) if options.pop("masked", False) else None
    if mask is not None:
        mask[..., 0] = True
    attend = functools.partial(F.scaled_dot_product_attention, dropout_p=0.4, **options)
    x = q.clone().requires_grad_()
    y = attend(x, k, v, mask, generator=fd.Generator(2))
    (dx,) = torch.autograd.grad(y.sum(), x)
    for shard, (batch, head, queries, _) in parts(random, q.shape, (0, 1, 2) if heads == 4 else (0, 2)):
        part = q[batch, head, queries].clone().requires_grad_()
        z = attend(
            part, k[batch, head], v[batch, head], None if mask is None else mask[batch][..., queries, :],
            generator=fd.Generator(2), shard=shard,
        )  # fmt: skip
        torch.testing.assert_close(z, y[batch, head, queries], rtol=1e-12, atol=1e-12)
        (dz,) = torch.autograd.grad(z.sum(), part)
        torch.testing.assert_close(dz, dx[batch, head, queries], rtol=1e-12, atol=1e-12)


def test_attention_weights_bit_for_bit():
    """Values that are unit vectors give the dropped weights themselves."""
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 7, 8)
    v = torch.eye(7).expand(2, 4, 7, 7)
    mask = fd.Generator(0).mask((2, 4, 6, 7), 0.5)
    for rank in range(2):
        half = slice(2 * rank, 2 * rank + 2)
        y = F.scaled_dot_product_attention(
            q[:, half], k[:, half], v[:, half], dropout_p=0.5, generator=fd.Generator(0), shard=Shard(1, rank, 2)
        )
        np.testing.assert_array_equal(y.numpy() != 0, np.asarray(mask[:, half]))


def test_causal_attention_of_later_queries_without_dropout():
    q, k, v = (torch.randn(2, 6, 8) for _ in range(3))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    z = F.scaled_dot_product_attention(q[:, 1::2], k, v, is_causal=True, shard=Shard(-2, 1, 2, interleaved=True))
    torch.testing.assert_close(z, y[:, 1::2])


def test_attention_needs_all_keys():
    q = torch.ones(2, 4, 8)
    with pytest.raises(ValueError, match=r"the batch, of heads or of queries, but got Shard\(axis=-1.*needs all keys"):
        F.scaled_dot_product_attention(q, q, q, dropout_p=0.5, shard=Shard(-1, 0, 2))


# ---- DropConnect ----


@pytest.mark.parametrize("lead", [(12,), (4, 3), (1, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_dropconnect(lead, seed):
    random = np.random.default_rng(seed)
    x, w = (torch.from_numpy(random.standard_normal(shape)) for shape in ((*lead, 8), (6, 8)))
    examples = 1 if lead[0] == 1 else 0
    for per_example in (True, False):
        connect = functools.partial(F.dropconnect, p=0.5, per_example=per_example)
        if per_example:
            shape, axes = (*lead, 6, 8), (examples, len(lead), len(lead) + 1)
        else:
            shape, axes = (6, 8), (0, 1)
        whole_x, whole_w = x.clone().requires_grad_(), w.clone().requires_grad_()
        y = connect(whole_x, whole_w, generator=fd.Generator(3))
        y.sum().backward()
        seen = False
        total, dx, dw = torch.zeros_like(y), torch.zeros_like(x), torch.zeros_like(w)
        for shard, index in parts(random, shape, axes):
            if len(lead) == 2 and examples == 0 and "interleaved" in repr(shard) and index[0].step:
                continue  # refused below
            at = (*index[:-2], index[-1]) if per_example else (..., index[-1])
            px, pw = x[at].clone().requires_grad_(), w[index[-2:]].clone().requires_grad_()
            part = connect(px, pw, generator=fd.Generator(3), shard=shard)
            part.sum().backward()
            total[(*index[:-2], index[-2]) if per_example else (..., index[-2])] += part.detach()
            dx[at] += px.grad
            dw[index[-2:]] += pw.grad
            seen = True
        if seen:
            for found, expected in ((total, y), (dx, whole_x.grad), (dw, whole_w.grad)):
                torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-10)


def test_dropconnect_masks_bit_for_bit():
    """A weight of one input, and examples of ones: the output is the mask."""
    mask = fd.Generator(0).mask((6, 5, 1), 0.5)
    layer = ft.DropConnectLinear(1, 5, 0.5, bias=False, generator=fd.Generator(0), shard=Shard(0, 1, 3))
    torch.nn.init.ones_(layer.weight)
    np.testing.assert_array_equal(layer(torch.ones(2, 1)).detach().numpy() != 0, np.asarray(mask[2:4, :, 0]))
    assert "per_example=True, shard=Shard(axis=0, rank=1, size=3)" in repr(layer)


def test_dropconnect_of_rows_that_lie_apart():
    x, w = torch.ones(2, 3, 4), torch.ones(5, 4)
    for shard in (Shard(0, 0, 2, interleaved=True), Shard(1, 0, 2), [Shard(0, 0, 2), Shard(1, 0, 2)]):
        with pytest.raises(ValueError, match=r"examples that follow each other, but got .*give it as \(examples, 4\)"):
            F.dropconnect(x, w, shard=shard)


# ---- modules ----

MODULES = [
    (ft.Dropout, (0.5,), (8, 6)),
    (ft.Dropout1d, (0.5,), (8, 6, 3)),
    (ft.Dropout2d, (0.5,), (8, 6, 3, 2)),
    (ft.Dropout3d, (0.5,), (8, 6, 3, 2, 2)),
    (ft.AlphaDropout, (0.5,), (8, 6)),
    (ft.FeatureAlphaDropout, (0.5,), (8, 6, 3)),
    (ft.DropPath, (0.5,), (8, 6)),
    (ft.LockedDropout, (0.5,), (8, 6, 4)),
    (ft.DropBlock2d, (0.3, 2), (8, 6, 5, 4)),
    (functools.partial(ft.DropConnectLinear, 6, 5), (0.5,), (8, 6)),
    (functools.partial(ft.WeightDrop, torch.nn.Linear(6, 8)), (0.5, ("weight",)), (8, 6)),
]


@pytest.mark.parametrize("make, arguments, shape", MODULES[:-1])
def test_modules(make, arguments, shape):
    torch.manual_seed(0)
    whole = make(*arguments, generator=fd.Generator(1))
    x = torch.randn(shape)
    y = whole(x)
    axis = 1 if isinstance(whole, ft.LockedDropout) else 0
    for rank in range(2):
        part = make(*arguments, generator=fd.Generator(1), shard=Shard(axis, rank, 2))
        part.load_state_dict(whole.state_dict())
        for module in (copy.deepcopy(part), pickle.loads(pickle.dumps(part)), part):
            assert repr(module).replace(f", shard=Shard(axis={axis}, rank={rank}, size=2)", "") == repr(whole)
            assert module.shard == part.shard
            torch.testing.assert_close(module(x.chunk(2, axis)[rank]), y.chunk(2, axis)[rank], rtol=1e-6, atol=1e-6)
        assert part.eval()(x).shape == y.shape


def test_weights_that_are_dropped():
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 8, bias=False)
    x = torch.randn(3, 6)
    y = ft.WeightDrop(linear, 0.5, ("weight",), generator=fd.Generator(1))(x)
    half = torch.nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        half.weight.copy_(linear.weight[4:])
    part = ft.WeightDrop(half, 0.5, ("weight",), generator=fd.Generator(1), shard=Shard(0, 1, 2))
    torch.testing.assert_close(part(x), y[:, 4:])
    assert "names=('weight',), shard=Shard(axis=0, rank=1, size=2)" in repr(part)


def test_modules_from_before_there_were_parts():
    module = ft.Dropout(0.5)
    del module.shard
    assert module.shard is None and module(torch.ones(4)).shape == (4,)
    module = torch.nn.Dropout(0.5)
    module.__class__ = ft.Dropout
    assert repr(module) == "Dropout(p=0.5, inplace=False)"


def test_accelerate():
    def model():
        return torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Identity(), torch.nn.Dropout(0.3))

    x = torch.randn(8, 16)
    whole = ft.accelerate(model(), verbose=False, generator=fd.Generator(1))
    y = whole(x)
    assert whole[0].generator is whole[2].generator and whole[0].generator.call == 2
    for rank in range(2):
        part = ft.accelerate(model(), verbose=False, generator=fd.Generator(1), shard=Shard(0, rank, 2))
        assert repr(part[2]) == f"Dropout(p=0.3, inplace=False, shard=Shard(axis=0, rank={rank}, size=2))"
        assert torch.equal(part(x[4 * rank :][:4]), y[4 * rank :][:4])
        assert torch.equal(copy.deepcopy(part[2])(x[:4]), part[2](x[:4]))
    plain = ft.accelerate(model(), verbose=False)
    assert "generator" not in vars(plain[0]) and "shard" not in vars(plain[0])


def test_accelerate_gives_to_what_is_fastdrops_already(capsys):
    nn, part, rng = torch.nn, Shard(0, 1, 2), fd.Generator(1)
    weights = ft.WeightDrop(nn.Linear(4, 4), 0.5, ("weight",))
    model = nn.Sequential(ft.Dropout(), nn.Dropout(), ft.DropConnectLinear(4, 4), ft.DropPath(), weights)
    ft.accelerate(model, verbose=False)
    ft.accelerate(model, generator=rng, shard=part)
    said = capsys.readouterr().err
    assert "accelerated 2 Dropout, 1 DropConnectLinear, 1 DropPath" in said
    assert "left 4: WeightDrop drops weights, and takes generator= and shard= itself" in said
    assert all(module.shard == part and module.generator is rng for module in model[:4]) and weights.shard is None
    model = nn.Sequential(nn.MultiheadAttention(4, 1, 0.1), nn.LSTM(4, 4, 2, dropout=0.1))
    for shard in (part, None):
        ft.accelerate(model, shard=shard)
        said, (which, verb) = capsys.readouterr().err, ("shard=...", "does not reach") if shard else ("", "reaches")
        assert f"MultiheadAttention drops in a function; fastdrop.torch.enable({which}) reaches it" in said
        assert f"LSTM drops in C++; fastdrop.torch.enable({which}) {verb} it" in said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{"shard": Shard(0, 1, 2)}, {"generator": fd.Generator(1)}])
def test_torch_jit_takes_no_parts(given):
    model = ft.accelerate(torch.nn.Sequential(torch.nn.Dropout(0.5)), verbose=False, **given)
    with pytest.raises(RuntimeError, match=r"torch\.jit\.script takes no (shard|generator), but Dropout was acc"):
        torch.jit.script(model)
    with pytest.raises(ValueError, match=r"(shard|generator) is for .*, but got a tensor that torch\.jit traces"):
        torch.jit.trace(model, torch.ones(8))
    assert isinstance(model[0], ft.Dropout)
    for record in (lambda model: torch.jit.trace(model, torch.ones(8)), torch.jit.script):
        assert torch.equal(record(model.eval())(torch.ones(8)), torch.ones(8))


class Subclass(torch.Tensor):
    pass


@pytest.mark.filterwarnings("ignore")
def test_what_has_no_part_is_named():
    shard = Shard(0, 0, 2)
    for x, what in [
        (torch.ones(2, 2, 4, dtype=torch.int64), "torch.int64 on cpu"),
        (torch.ones(2, 2, 4, device="meta"), "torch.float32 on meta"),
        (torch.ones(2, 2, 4).as_subclass(Subclass), "a Subclass"),
        (torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(1, 4)]), "a nested tensor"),
        (torch.ones(2, 2, 4).to_sparse(), "a tensor of layout torch.sparse_coo"),
    ]:
        for function in (F.dropout, F.dropout2d, F.drop_path, lambda x, **o: F.dropconnect(x, torch.ones(3, 4), **o)):
            if function is F.drop_path and x.is_nested:
                continue  # which has no shape
            message = f"shard is for floating tensors on the CPU, but got {re.escape(what)}|has to be a floating tensor"
            with pytest.raises((ValueError, TypeError), match=message):
                function(x, shard=shard)
        for nothing in (F.dropout(x, training=False, shard=shard), F.dropout(x, 0.0, shard=shard)):
            assert nothing.is_nested or nothing.is_sparse or nothing.is_meta or torch.equal(nothing, x)


@pytest.mark.parametrize("package, name, attributes", [
    ("timm", "DropPath", {"drop_prob": 0.5}), ("torchvision", "StochasticDepth", {"p": 0.5, "mode": "row"}),
])  # fmt: skip
def test_accelerate_paths(package, name, attributes):
    forward = {"__module__": f"{package}.layers", "forward": lambda self, x: x}
    module = type(name, (torch.nn.Module,), forward)()
    vars(module).update(attributes)
    ft.accelerate(module, verbose=False, generator=fd.Generator(1), shard=Shard(0, 1, 2))
    mask = np.asarray(fd.Generator(1).mask((80, 1), 0.5))[40:]
    np.testing.assert_array_equal(module(torch.ones(40, 3)).numpy() != 0, np.broadcast_to(mask, (40, 3)))


# ---- the compiler and the transforms ----


@pytest.mark.filterwarnings("ignore")  # what the compiler deprecates in itself
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic):
    torch._dynamo.reset()
    module = ft.Dropout(0.5, shard=[Shard(0, 1, 3), Shard(-1, 0, 2)])
    call = torch.compile(lambda x: module(x * 2), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for extent in (4, 6, 7):
        x = torch.randn(extent, 5, requires_grad=True)
        torch.manual_seed(1)
        y = call(x)
        torch.manual_seed(1)
        z = module(x * 2)
        assert torch.equal(y, z)
        (dx,), (dz,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(z.sum(), x)
        assert torch.equal(dx, dz)
    module.shard = Shard(0, 0, 3)  # the compiler guards on it
    torch.manual_seed(1)
    y = call(x)
    torch.manual_seed(1)
    assert torch.equal(y, module(x * 2))
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["2d", "alpha", "block", "path"])
def test_compile_kinds(name):
    function, shape, _ = KINDS[name]
    torch._dynamo.reset()
    x = torch.randn(shape)
    shard = Shard(0, 1, 2)
    torch.manual_seed(1)
    y = torch.compile(lambda x: function(x, shard=shard), backend="aot_eager", fullgraph=True)(x)
    torch.manual_seed(1)
    assert torch.equal(y, function(x, shard=shard))
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
def test_compiled_parts_without_elements_draw():
    torch._dynamo.reset()
    rng = fd.Generator(0)
    part = Shard(0, 1, (2, 0))
    call = torch.compile(
        lambda x: (F.dropout(x, 0.5, shard=part), F.dropout(x, 0.5, shard=part, generator=rng)),
        backend="aot_eager", fullgraph=True,
    )  # fmt: skip
    torch.manual_seed(1)
    F.dropout(torch.ones(3), 0.5)
    expected = torch.get_rng_state()
    torch.manual_seed(1)
    call(torch.ones(0, 3))
    assert torch.equal(torch.get_rng_state(), expected) and rng.call == 1
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
def test_compiled_attention_and_dropconnect():
    torch._dynamo.reset()
    q = torch.randn(2, 4, 6, 8)
    x, w = torch.randn(4, 6), torch.randn(5, 6)
    for function, args in (
        (lambda q: F.scaled_dot_product_attention(q, q, q, None, 0.5, True, shard=Shard(1, 1, 2)), (q,)),
        (lambda x, w: F.dropconnect(x, w, shard=[Shard(0, 1, 2), Shard(-1, 1, 2)]), (x, w)),
    ):
        torch.manual_seed(1)
        y = torch.compile(function, backend="aot_eager", fullgraph=True)(*args)
        torch.manual_seed(1)
        torch.testing.assert_close(y, function(*args))
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["dropout", "2d", "alpha", "block"])
def test_transforms(name):
    function, shape, _ = KINDS[name]
    x = torch.randn(shape, dtype=torch.float64)
    part = functools.partial(function, shard=Shard(-3 if len(shape) == 4 else -2, 1, 2))
    torch.manual_seed(2)
    alone = part(x)
    # A new axis comes first, and the parts' axes stay what they were.
    torch.manual_seed(2)
    y = torch.func.vmap(part, randomness="same")(torch.stack([x, x]))
    assert torch.equal(y[0], alone) and torch.equal(y[1], alone)
    torch.manual_seed(2)
    g = torch.func.grad(lambda x: (part(x) ** 2).sum())(x)
    torch.manual_seed(2)
    _, tangent = torch.func.jvp(lambda x: (part(x) ** 2).sum(), (x,), (torch.ones_like(x),))
    leaf = x.clone().requires_grad_()
    torch.manual_seed(2)
    (expected,) = torch.autograd.grad((part(leaf) ** 2).sum(), leaf)
    assert torch.equal(g, expected)
    torch.testing.assert_close(tangent, expected.sum())
    torch.manual_seed(2)
    torch.testing.assert_close(torch.func.functionalize(lambda x: part(x * 1))(x), alone)
    fixed = lambda x: part(x, generator=fd.Generator(0))  # noqa: E731
    small = x[:2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(fixed, small)
    assert torch.autograd.gradgradcheck(lambda x: fixed(x) ** 2, small)


def test_operators_are_well_formed():
    x, w, seed = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True), torch.tensor([5, -1])
    torch.library.opcheck(torch.ops.fastdrop.drop.default, (x, seed, 0.3, [8, 6], [], 2.0, 0.5, -1.0, [-2, 4, 1]))
    torch.library.opcheck(torch.ops.fastdrop.connect.default, (x, w, seed, 0.5, [8, 5, 6], [-3, 4, 1]))
    with pytest.raises(ValueError, match="part names axis 1 of 2: it has to be negative"):
        torch.ops.fastdrop.drop.default(x, seed, 0.3, [8, 6], [], 2.0, 0.5, -1.0, [1, 4, 1])


@pytest.mark.parametrize("noise, block, part, message", [
    ([4], [], [], "noise has to have 2 axes, as x has"),
    ([4], [], [-2, 2, 1], "noise has to have 2 axes, as x has"),
    ([4, 6, 1], [], [-2, 2, 1], "noise has to have 2 axes, as x has"),
    ([], [2, 2, 2], [], "block_size has to be an integer or 2 of them"),
    ([], [], [-2, 2, 1], "part has to be axis, first and step for each axis, with noise"),
    ([8, 6], [], [-2], "part has to be axis, first and step for each axis"),
    ([8, 6], [], [-2, 2], "part has to be axis, first and step for each axis"),
    ([2**62, 2**62], [], [-2, 2**61, 1], r"noise has to be of a whole of fewer than 2\*\*63 elements"),
    ([-4, 6], [], [-2, 0, 1], r"noise has to be of a whole of fewer than 2\*\*63 elements"),
])  # fmt: skip
def test_operators_refuse_laws_that_do_not_fit(noise, block, part, message):
    with pytest.raises(ValueError, match=message):
        torch.ops.fastdrop.drop.default(torch.ones(4, 6), torch.tensor(1), 0.5, noise, block, 2.0, 0.0, 0.0, part)


@pytest.mark.filterwarnings("ignore")
def test_compiled_parts_of_a_whole_that_is_too_large():
    torch._dynamo.reset()
    module = ft.Dropout(0.5, shard=[Shard(0, 2**40 - 1, 2**40), Shard(1, 0, 2**40)])
    with pytest.raises(ValueError, match=r"of fewer than 2\*\*63 elements"):
        torch.compile(module, backend="aot_eager")(torch.ones(4, 6))
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
def test_export():
    program = torch.export.export(ft.Dropout(0.5, shard=Shard(0, 1, 2)), (torch.ones(4, 6),))
    torch.manual_seed(1)
    y = program.module()(torch.ones(4, 6))
    torch.manual_seed(1)
    assert torch.equal(y, F.dropout(torch.ones(4, 6), 0.5, shard=Shard(0, 1, 2)))


def test_checkpoint_with_a_generator():
    rng = fd.Generator(1)
    module = ft.Dropout(0.5, generator=rng, shard=Shard(0, 1, 2))
    x = torch.randn(64, requires_grad=True)
    contexts = functools.partial(ft.checkpoint_contexts, rng)
    y = torch.utils.checkpoint.checkpoint(lambda x: module(x) ** 2, x, use_reentrant=False, context_fn=contexts)
    module(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    factors = fd.Generator(1).mask(128, 0.5)[64:].apply(np.ones(64, np.float32))
    np.testing.assert_allclose(dx.numpy(), 2 * x.detach().numpy() * factors**2, rtol=1e-6)


# ---- what goes wrong ----


@pytest.mark.parametrize("wrong", [1, "0", (0, 1, 2), {0: 1}, torch.ones(2), [Shard(0, 0, 2), None]])
def test_what_is_no_shard(wrong):
    x = torch.ones(4, 6)
    calls = [
        lambda: F.dropout(x, shard=wrong),
        lambda: F.dropout(x, training=False, shard=wrong),
        lambda: F.drop_path(x, shard=wrong),
        lambda: F.scaled_dot_product_attention(x, x, x, shard=wrong),
        lambda: F.dropconnect(x, x, shard=wrong),
        lambda: ft.accelerate(torch.nn.Dropout(), verbose=False, shard=wrong),
        *(functools.partial(make, *arguments, shard=wrong) for make, arguments, _ in MODULES),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"shard has to be a fastdrop\.Shard, a sequence of them or None, but got"):
            call()


def test_shards_that_do_not_fit():
    x = torch.ones(4, 6)
    state = torch.get_rng_state()
    for shard, message in [
        (Shard(2, 0, 2), "names an axis that a tensor of 2 axes does not have"),
        ([Shard(0, 0, 2), Shard(-2, 0, 2)], "has to name each axis once"),
        (Shard(0, 0, (3, 4)), "is 3 elements long, but the tensor has 4"),
        (Shard(0, 0, 2**61), r"of fewer than 2\*\*63 elements"),
    ]:
        for function in (F.dropout, functools.partial(F.alpha_dropout, training=True), F.drop_path):
            with pytest.raises(ValueError, match=message):
                function(x, 0.5, shard=shard)
    with pytest.raises(ValueError, match=r"of the axes of examples or channels, but got Shard\(axis=-1"):
        F.drop_block2d(torch.ones(2, 3, 8, 8), 0.3, shard=Shard(-1, 0, 2))
    with pytest.raises(ValueError, match=r"shard is for floating tensors on the CPU, but got torch\.int64"):
        F.dropout(torch.ones(4, dtype=torch.int64), shard=Shard(0, 0, 2))
    with pytest.raises(ValueError, match="shard is for floating tensors on the CPU"):
        F.scaled_dot_product_attention(*[torch.ones(2, 3, 4, device="meta")] * 3, dropout_p=0.5, shard=Shard(0, 0, 2))
    with pytest.raises(RuntimeError, match="at least 2 axes, but got 1, 1 and 1"):
        F.scaled_dot_product_attention(*[torch.ones(3)] * 3, dropout_p=0.5, is_causal=True, shard=Shard(0, 0, 2))
    assert torch.equal(torch.get_rng_state(), state)
