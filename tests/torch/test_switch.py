"""enable(), disable() and enabled(): what they reach, that it is fastdrop's bits, and that nothing is left behind."""

from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Shard

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
from torch.nn.functional import dropout as imported_before  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop.torch.switch import _FUNCTIONS, _OPERATORS  # noqa: E402

F, TF, nn = ft.functional, torch.nn.functional, torch.nn
NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
SHAPES = {"dropout1d": (6, 5, 9), "dropout3d": (2, 5, 2, 3, 4)}


@pytest.fixture
def on():
    with ft.enabled():
        yield


def masks(*shape, p):
    """The masks of the next calls under PyTorch's generator, which stays as it is."""
    state = torch.get_rng_state()
    while True:
        now = torch.get_rng_state()
        torch.set_rng_state(state)
        key = int(torch.empty((), dtype=torch.int64).random_()) % 2**62
        state = torch.get_rng_state()
        torch.set_rng_state(now)
        yield np.asarray(fd.Mask(key, 0, p, shape))


def dispatch_tables():
    ops = [op for op, _ in _OPERATORS] + [torch.ops.aten.bernoulli_.float]
    return [torch._C._dispatch_dump_table(op.name()) for op in ops] + [getattr(TF, name) for name in _FUNCTIONS]


def test_disable_restores_everything():
    before = dispatch_tables()
    ft.enable()
    ft.enable()
    assert TF.dropout is not before[-len(_FUNCTIONS)]
    with ft.enabled():
        ft.disable()
        assert TF.dropout is not before[-len(_FUNCTIONS)]
    assert dispatch_tables() == before
    ft.disable()
    assert dispatch_tables() == before


def test_an_error_in_the_block_ends_it():
    before = dispatch_tables()
    with pytest.raises(KeyError), ft.enabled():
        raise KeyError
    assert dispatch_tables() == before


def test_somebody_elses_function_stays(monkeypatch):
    theirs = lambda *args, **kwargs: "theirs"  # noqa: E731
    monkeypatch.setattr(TF, "dropout", theirs)
    with ft.enabled():
        assert TF.dropout is theirs
        inner = TF.dropout1d
        monkeypatch.setattr(TF, "dropout1d", lambda *a: inner(*a))
        wrapped = TF.dropout1d
    assert TF.dropout is theirs and TF.dropout1d is wrapped


@pytest.mark.parametrize("name", NAMES)
def test_functions(on, name):
    x = torch.randn(SHAPES.get(name, (6, 5, 9, 2)))
    for p in (0.3, 1.0):
        torch.manual_seed(0)
        expected = getattr(F, name)(x, p, True)
        torch.manual_seed(0)
        assert torch.equal(getattr(TF, name)(x, p, True), expected)
        torch.manual_seed(0)
        assert torch.equal(getattr(TF, name)(x.clone(), p=p, training=True, inplace=True), expected)
    assert getattr(TF, name)(x, 0.3, False) is x


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"])
def test_operators(on, name):
    ours = {"feature_dropout": F.dropout2d}.get(name) or getattr(F, name)
    x = torch.randn(6, 5, 9, 2, requires_grad=True)
    for call in (getattr(torch, name), lambda x, *args: getattr(torch, name + "_")(x * 1, *args)):
        torch.manual_seed(0)
        expected = ours(x, 0.3, True)
        torch.manual_seed(0)
        y = call(x, 0.3, True)
        assert torch.equal(y, expected)
        g = torch.randn_like(x)
        assert torch.equal(*(torch.autograd.grad(z, x, g)[0] for z in (y, expected)))
    with pytest.raises(RuntimeError, match="probability has to be between 0 and 1, but got 1"):
        getattr(torch, name)(x, 1.5, True)
    with pytest.raises(RuntimeError, match="leaf"):
        getattr(torch, name + "_")(x, 0.3, True)


CALLS = {
    "imported before": lambda: lambda x: imported_before(x, 0.3),
    "module": lambda: nn.Dropout(0.3),
    "in place": lambda: lambda x: nn.Dropout(0.3, inplace=True)(x.clone()),
    "script": lambda: torch.jit.script(nn.Dropout(0.3)),
    "trace": lambda: torch.jit.trace(nn.Dropout(0.3), torch.ones(3), check_trace=False),
    "fx": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Dropout(0.3))),
    "compiled": lambda: torch.compile(lambda x: TF.dropout(x, 0.3), fullgraph=True, backend="aot_eager"),
    "checkpoint": lambda: lambda x: torch.utils.checkpoint.checkpoint(nn.Dropout(0.3), x, use_reentrant=False),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("made", ["before", "within"])
@pytest.mark.parametrize("name", CALLS)
def test_ways_to_dropout(name, made):
    call = CALLS[name]() if made == "before" else None
    x = torch.rand(40, 30, requires_grad=True)
    if call is not None:
        call(x)
    with ft.enabled():
        call = call or CALLS[name]()
        (mask,) = (next(masks(40, 30, p=0.3)),)
        y = call(x)
        np.testing.assert_array_equal(y.detach().numpy() != 0, mask)
        (dx,) = torch.autograd.grad(y.sum(), x)
        np.testing.assert_array_equal(dx.numpy() != 0, mask)
    mask = next(masks(40, 30, p=0.3))
    y = call(x)
    assert not np.array_equal(y.detach().numpy() != 0, mask)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx != 0, y != 0) and 0.5 < (y != 0).double().mean() < 0.9


def test_modes_without_gradients(on):
    x = torch.rand(40, 30)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            mask = next(masks(40, 30, p=0.3))
            np.testing.assert_array_equal(TF.dropout(x, 0.3).numpy() != 0, mask)
            assert 0.5 < (imported_before(x, 0.3) != 0).double().mean() < 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 1e-6, 0.3, 0.5, 1.0])
def test_bernoulli(on, dtype, p):
    mask = next(masks(20, 30, p=p))
    x = torch.full((20, 30), math.nan, dtype=dtype)
    assert x.bernoulli_(p) is x
    np.testing.assert_array_equal(x.double().numpy(), ~mask)
    view = torch.full((30, 40), math.nan, dtype=dtype).t()[::2]
    mask = next(masks(20, 30, p=p))
    np.testing.assert_array_equal(view.bernoulli_(p).double().numpy(), ~mask)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_bernoulli_of_integers(on, dtype):
    mask = next(masks(20, 30, p=0.3))
    np.testing.assert_array_equal(torch.ones(20, 30).to(dtype).bernoulli_(0.3).numpy(), ~mask)


def test_bernoulli_takes_a_generator(on):
    drawn = [torch.empty(50).bernoulli_(0.5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    state = torch.get_rng_state()
    assert torch.equal(*drawn) and torch.equal(torch.get_rng_state(), state)
    assert torch.empty(0, 3).bernoulli_(0.5).shape == (0, 3)
    assert torch.empty(()).bernoulli_(1.0) == 1


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_errors_of_bernoulli_are_pytorchs(p):
    found = []
    for switch in (ft.disable, ft.enable):
        switch()
        x = torch.full((3,), 7.0)
        with pytest.raises(RuntimeError) as error:
            x.bernoulli_(p)
        assert torch.equal(x, torch.full((3,), 7.0))
        found.append(str(error.value))
        for wrong, kind in (
            (torch.ones(3, dtype=torch.complex64), NotImplementedError),
            (x[:1].expand(3), RuntimeError),
        ):
            with pytest.raises(kind):
                wrong.bernoulli_(0.5)
    ft.disable()
    assert found[0] == found[1]


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(on, layer):
    """One mask between two layers: of the same size and seed, it is the law's."""
    torch.manual_seed(0)
    net = layer(4, 8, num_layers=2, dropout=0.5, batch_first=True)
    x = torch.randn(3, 5, 4, requires_grad=True)
    first, second = layer(4, 8, batch_first=True), layer(8, 8, batch_first=True)
    for name, value in net.named_parameters():
        target = first if name.endswith("_l0") else second
        with torch.no_grad():
            target.get_parameter(name.replace("_l1", "_l0")).copy_(value)
    torch.manual_seed(5)
    y = net(x)[0]
    torch.manual_seed(5)
    # between the layers the steps come first
    between = F.dropout(first(x)[0].transpose(0, 1), 0.5).transpose(0, 1)
    expected = second(between)[0]
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(z.sum(), x)[0] for z in (y, expected)))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_multihead_attention(on, need_weights, masked):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 2, dropout=0.4, batch_first=True)
    x = torch.randn(3, 5, 16, requires_grad=True)
    options = {"need_weights": need_weights, "attn_mask": torch.ones(5, 5).triu(1).bool() if masked else None}
    torch.manual_seed(5)
    y = layer(x, x, x, **options)[0]
    torch.manual_seed(5)
    q, k, v = (t.view(3, 5, 2, 8).transpose(1, 2) for t in TF.linear(x, layer.in_proj_weight).chunk(3, -1))
    weights = q @ k.mT / math.sqrt(8)
    if masked:
        weights = weights.masked_fill(options["attn_mask"], -math.inf)
    dropped = F.dropout(weights.softmax(-1).view(6, 5, 5), 0.4).view(3, 2, 5, 5)
    expected = TF.linear((dropped @ v).transpose(1, 2).reshape(3, 5, 16), layer.out_proj.weight)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(z.square().sum(), x)[0] for z in (y, expected)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_attention(on):
    @torch.jit.script
    def attend(q, p: float):
        return torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=p)

    q = torch.randn(2, 5, 8)
    torch.manual_seed(0)
    y = attend(q, 0.5)
    torch.manual_seed(0)
    torch.testing.assert_close(y, F.scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    torch.testing.assert_close(attend(q, 0.0), TF.scaled_dot_product_attention(q, q, q))


def test_transformer_trains_alike_by_module_and_by_function():
    """Eager, accelerated and compiled draw the same keys in the same order."""
    found = []
    for way in (lambda m: m, lambda m: ft.accelerate(m, verbose=False)):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.3, batch_first=True)
        x = torch.randn(3, 5, 16)
        with ft.enabled():
            found.append(way(layer)(x).detach())
    assert torch.equal(*found)


def test_transforms(on):
    x = torch.rand(6, 50)
    for call in (TF.dropout, imported_before):
        same = torch.func.vmap(lambda a, call=call: call(a, 0.5), randomness="same")(x)
        assert ((same != 0).any(0) == (same != 0).all(0)).all()
        other = torch.func.vmap(lambda a, call=call: call(a, 0.5), randomness="different")(x)
        assert not ((other != 0).any(0) == (other != 0).all(0)).all()
        with pytest.raises(RuntimeError, match="randomness"):
            torch.func.vmap(lambda a, call=call: call(a, 0.5))(x)
        slopes = torch.func.grad(lambda a, call=call: call(a, 0.5).sum())(x)
        assert set(slopes.unique().tolist()) == {0.0, 2.0}
        per_example = torch.func.vmap(torch.func.grad(lambda a, call=call: call(a, 0.5).sum()), randomness="different")(
            x
        )
        assert set(per_example.unique().tolist()) == {0.0, 2.0}
        _, tangent = torch.func.jvp(lambda a, call=call: call(a, 0.5), (x,), (torch.ones_like(x),))
        assert set(tangent.unique().tolist()) == {0.0, 2.0}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["lstm", "attention"])
def test_transforms_of_what_drops_in_cpp(on, name):
    if name == "lstm":
        net = nn.LSTM(8, 8, 2, dropout=0.5)
        call = lambda x: net(x)[0]  # noqa: E731
    else:
        call = lambda x: torch._C._nn.scaled_dot_product_attention(x, x, x, None, 0.5)  # noqa: E731
    x = torch.randn(3, 5, 8)
    torch.manual_seed(0)
    slopes = torch.func.grad(lambda x: call(x).square().sum())(x)
    torch.manual_seed(0)
    y, pull = torch.func.vjp(call, x)
    torch.testing.assert_close(pull(2 * y)[0], slopes)
    per_example = torch.func.vmap(torch.func.grad(lambda x: call(x[:, None]).sum()), randomness="different")
    assert per_example(x).shape == x.shape


class Subclass(torch.Tensor):
    pass


@pytest.mark.filterwarnings("ignore:.*nested tensors.*")
def test_what_is_not_ours_stays_pytorchs():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    original = TF.dropout
    with ft.enabled():
        with Mode():
            TF.dropout(torch.ones(3), 0.5)
        assert original in seen
        assert type(TF.dropout(torch.ones(3).as_subclass(Subclass), 0.5)) is Subclass
        assert TF.dropout(torch.ones(3, device="meta"), 0.5).is_meta
        assert TF.dropout(torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]), 0.5).is_nested
        assert torch.equal(TF.dropout(torch.arange(3), 0.0), torch.arange(3))
        assert not TF.dropout(torch.ones(3), True).any()  # p = True was never an error
        for wrong in ([1.0], None):
            with pytest.raises(TypeError, match="must be Tensor"):
                TF.dropout(wrong, 0.5)
        with pytest.raises(ValueError, match="between 0 and 1, but got 1"):
            TF.dropout(torch.ones(3), 1.5)
        with pytest.raises(NotImplementedError, match="bernoulli"):
            TF.dropout(torch.ones(3, dtype=torch.complex64), 0.5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            q = torch.randn(2, 5, 8, requires_grad=True)
            y = TF.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
            assert y.dtype == torch.bfloat16
            y.float().sum().backward()


def test_exports_hold_pytorchs_operators(on):
    class Net(nn.Module):
        def forward(self, x):
            return TF.dropout(x, 0.5) + imported_before(x, 0.5)

    exported = torch.export.export(Net().train(), (torch.ones(3),))
    assert "fastdrop" not in str(exported)
    assert "fastdrop" not in str(torch.jit.trace(Net(), torch.ones(3), check_trace=False).graph)


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")
def test_compiled_code_follows_the_switch():
    """A function that was compiled within is not used outside, nor the other way round."""
    from torch._dynamo.testing import AotEagerAndRecordGraphs

    recorder = AotEagerAndRecordGraphs()
    call = torch.compile(lambda x: nn.functional.dropout(x, 0.5), backend=recorder, fullgraph=True)
    x = torch.ones(30, requires_grad=True)
    for within in (False, True, False, True):
        with ft.enabled() if within else torch.enable_grad():
            call(x).sum().backward()
    codes = [graph.code for graph in recorder.fw_graphs]
    assert ["fastdrop" in code for code in codes] == [False, True]


def test_pickles_name_pytorch(on):
    assert pickle.loads(pickle.dumps(TF.dropout)) is TF.dropout
    assert b"fastdrop" not in pickle.dumps(TF.dropout)
    buffer = io.BytesIO()
    torch.save(nn.Dropout(0.5), buffer)
    assert b"fastdrop" not in buffer.getvalue()


def test_a_process_ends_well_while_enabled():
    code = (
        "import torch, fastdrop.torch as ft; ft.enable();"
        "import warnings; warnings.simplefilter('error');"
        "print(torch.nn.LSTM(3, 3, 2, dropout=.5)(torch.ones(2, 3, requires_grad=True))[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "torch.Size([2, 3])\n", "")


def test_parts_of_a_batch():
    """Every function that PyTorch's modules call takes the part; evaluation, and the next block, take none."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.3, batch_first=True).double()
    x = torch.randn(6, 5, 16, dtype=torch.float64)
    with ft.enabled():
        torch.manual_seed(1)
        y = layer(x)
    for rank in range(3):
        with ft.enabled(shard=Shard(0, rank, 3)):
            torch.manual_seed(1)
            ft.disable()  # of what was never enabled
            with ft.enabled():  # within, it is what it was
                torch.testing.assert_close(layer(x[2 * rank :][:2]), y[2 * rank :][:2], rtol=1e-12, atol=1e-12)
            assert nn.functional.dropout(x[:1].long(), 0.5, False).shape == (1, 5, 16)
        torch.manual_seed(1)
        with ft.enabled():
            whole = nn.functional.dropout(x, 0.5)
        torch.manual_seed(1)
        assert torch.equal(whole, ft.functional.dropout(x, 0.5))
    ft.enable(shard=Shard(0, 1, 2, interleaved=True))
    try:
        torch.manual_seed(1)
        assert torch.equal(nn.Dropout(0.5)(x[1::2]), whole[1::2])
        for call in (lambda: nn.LSTM(4, 4, 2, dropout=0.5)(torch.ones(3, 2, 4)), lambda: torch.dropout(x, 0.5, True)):
            with pytest.raises(
                RuntimeError, match=r"dropout: enable\(shard=\.\.\.\) reaches calls of torch\.nn\.functional"
            ):
                call()
        torch.dropout(x, 0.5, False), torch.dropout(x, 0.0, True), nn.LSTM(4, 4, 2)(torch.ones(3, 2, 4))
        with pytest.raises(TypeError, match=r"shard has to be a fastdrop\.Shard"):
            ft.enable(shard=1)
    finally:
        ft.disable()
    with ft.enabled():
        torch.dropout(x, 0.5, True)
    with pytest.raises(TypeError, match=r"shard has to be a fastdrop\.Shard"), ft.enabled(shard=(0, 1)):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_parts_of_attention_are_of_examples(need_weights, compiled):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 2, dropout=0.4, batch_first=True)
    attend = torch.compile(layer, backend="aot_eager") if compiled else layer
    x = torch.randn(4, 5, 16)

    def call(x, shard=None):
        torch.manual_seed(1)
        with ft.enabled(shard):
            return attend(x, x, x, need_weights=need_weights)[0]

    y = call(x)
    for rank in range(2):
        torch.testing.assert_close(call(x[2 * rank :][:2], Shard(0, rank, 2)), y[2 * rank :][:2])
        if not need_weights:
            torch.testing.assert_close(call(x[rank::2], Shard(0, rank, 2, interleaved=True)), y[rank::2])
    for shard in (Shard(1, 0, 2), Shard(-2, 0, 2), [Shard(0, 0, 2), Shard(-1, 0, 2)]):
        with pytest.raises(ValueError, match=r"has to be of axis 0, the examples' in attention weights.*but got Shard"):
            call(x, shard)
    if need_weights:
        with pytest.raises(ValueError, match="and not interleaved where these are returned"):
            call(x, Shard(0, 0, 2, interleaved=True))
    layer.eval()
    call(x, Shard(1, 0, 2))
    torch._dynamo.reset()


def test_parts_reach_any_probability_and_no_operator():
    x, shard = torch.ones(40), Shard(0, 1, 2)
    refused = pytest.raises(RuntimeError, match=r"under another name, or from what torch\.jit")
    with ft.enabled(shard=shard):
        assert not nn.functional.dropout(x, 1).any()
        torch.manual_seed(0)
        y = nn.functional.dropout(x, np.float64(0.5))
        torch.manual_seed(0)
        assert torch.equal(y, F.dropout(x, 0.5, shard=shard))
        with pytest.raises(TypeError, match="has to be a number"):
            nn.functional.dropout(x, "0.5")
        for call in (
            lambda: torch.dropout(x.as_subclass(Subclass), 0.5, True),
            lambda: torch.export.export(nn.Dropout(0.5), (x,)),
        ):
            with refused:
                call()


@pytest.mark.filterwarnings("ignore")
def test_parts_of_a_batch_compiled():
    x = torch.randn(4, 6)
    call = torch.compile(lambda x: nn.functional.dropout(x, 0.5), backend="aot_eager", fullgraph=True)
    for shard in (None, Shard(0, 1, 2), Shard(0, 0, 2), None):
        with ft.enabled(shard):
            torch.manual_seed(1)
            y = call(x)
        torch.manual_seed(1)
        assert torch.equal(y, ft.functional.dropout(x, 0.5, shard=shard))
    torch._dynamo.reset()


@pytest.mark.parametrize("before", ["", "ft.enable(); torch.compile(m, backend='aot_eager')(x)", "ft.enable()"])
def test_parts_of_a_batch_where_the_compiler_comes_later(before):
    code = f"""
import sys, torch, fastdrop as fd, fastdrop.torch as ft
m, x = torch.nn.Dropout(0.5), torch.ones(64)
assert "torch._dynamo" not in sys.modules
{before}
for rank in (1, 0):
    ft.enable(shard=fd.Shard(0, rank, 2))
    torch.manual_seed(0)
    y = torch.compile(m, backend="aot_eager")(x)
    torch.manual_seed(0)
    assert torch.equal(y, ft.functional.dropout(x, shard=fd.Shard(0, rank, 2)))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_blocks_that_end_in_any_order():
    switch = ft.switch._switch
    first, second, third = (ft.enabled(shard=shard) for shard in (Shard(0, 0, 2), Shard(0, 1, 2), []))
    first.__enter__(), second.__enter__(), third.__enter__()
    assert switch.shard == Shard(0, 1, 2)
    first.__exit__(None, None, None)
    assert switch.shard == Shard(0, 1, 2)
    second.__exit__(None, None, None)
    assert switch.shard is None and switch.library is not None
    third.__exit__(None, None, None)
    assert switch.shard is None and switch.library is None
