"""Autograd, checkpointing, the compiler, torch.func, modes, processes: what PyTorch does with an operation."""

from __future__ import annotations

import functools
import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

import fastdrop as fd

torch = pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
import fastdrop.torch as ft  # noqa: E402

F = ft.functional
KINDS = {
    "dropout": lambda x, **o: F.dropout(x, 0.5, **o),
    "dropout2d": lambda x, **o: F.dropout2d(x, 0.5, **o),
    "alpha": lambda x, **o: F.alpha_dropout(x, 0.5, True, **o),
    "block": lambda x, **o: F.drop_block2d(x, 0.3, 2, **o),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def images(**options):
    return torch.randn(4, 3, 6, 5, dtype=torch.float64, **options)


@each_kind
def test_gradients(kind):
    def fixed(x):
        return kind(x, generator=fd.Generator(0))

    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fixed, x)
    assert torch.autograd.gradgradcheck(lambda x: fixed(x) ** 2, x)
    assert torch.autograd.gradcheck(fixed, x, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("per_example", [True, False])
def test_gradients_of_dropconnect(per_example):
    def fixed(x, w, b):
        return F.dropconnect(x, w, b, 0.5, per_example=per_example, generator=fd.Generator(0))

    shapes = (3, 4), (2, 4), (2,)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(fixed, inputs)
    assert torch.autograd.gradgradcheck(fixed, inputs)


@each_kind
def test_nothing_is_saved_for_backward(kind):
    saved = []

    def pack(t):
        saved.append(t.nbytes)
        return t

    x = images(requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = kind(x)
        (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert saved == []
    assert dx.shape == x.shape


@pytest.mark.parametrize("use_reentrant", [True, False])
@each_kind
def test_checkpoint(kind, use_reentrant):
    layer = torch.nn.Conv2d(3, 3, 1).double()
    x = images(requires_grad=True)
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        if checkpointed:
            y = torch.utils.checkpoint.checkpoint(lambda x: kind(layer(x)) ** 2, x, use_reentrant=use_reentrant)
        else:
            y = kind(layer(x)) ** 2
        torch.rand(10)
        x.grad = layer.weight.grad = None
        y.sum().backward()
        gradients.append((x.grad, layer.weight.grad))
    for a, b in zip(*gradients):
        assert torch.equal(a, b)


def test_checkpoint_with_a_generator():
    rng = fd.Generator(1)
    module = ft.Dropout(0.5, generator=rng)
    x = torch.randn(64, requires_grad=True)
    contexts = functools.partial(ft.checkpoint_contexts, rng)
    y = torch.utils.checkpoint.checkpoint(lambda x: module(x) ** 2, x, use_reentrant=False, context_fn=contexts)
    module(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    factors = fd.Generator(1).mask(64, 0.5).apply(np.ones(64, np.float32))
    np.testing.assert_allclose(dx.numpy(), 2 * x.detach().numpy() * factors**2, rtol=1e-6)
    assert rng.call == 2
    with pytest.raises(TypeError):
        ft.checkpoint_contexts(None)


@pytest.fixture(params=["eager", "aot_eager", "inductor"])
def compiled(request):
    torch._dynamo.reset()
    if request.param == "inductor" and sys.platform == "win32":
        pytest.skip("needs a C++ compiler")
    yield functools.partial(torch.compile, backend=request.param, fullgraph=True)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # what the compiler deprecates in itself
def test_compile(compiled):
    x = torch.randn(4, 3, 6, 5, requires_grad=True)
    for kind in KINDS.values():
        function = compiled(kind)
        for _ in range(2):
            torch.manual_seed(1)
            y, again = function(x), function(x)
            torch.manual_seed(1)
            z = kind(x)
            assert torch.equal(y, z) and not torch.equal(y, again)
            (dx,), (dz,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(z.sum(), x)
            assert torch.equal(dx, dz)


@pytest.mark.filterwarnings("ignore")
def test_compile_in_place_and_with_a_generator(compiled):
    module = ft.Dropout(0.5, inplace=True, generator=fd.Generator(0))
    function = compiled(lambda x: module(x * 2) * 3)
    reference = fd.Generator(0)
    x = torch.randn(4, 8, requires_grad=True)
    for step in range(3):
        if step == 2:
            module.generator, reference = fd.Generator(7), fd.Generator(7)
        y = function(x)
        factors = reference.mask((4, 8), 0.5).apply(np.full((4, 8), 6, np.float32))
        np.testing.assert_allclose(y.detach().numpy(), factors * x.detach().numpy(), rtol=1e-6)
        (dx,) = torch.autograd.grad(y.sum(), x)
        np.testing.assert_array_equal(dx.numpy(), factors)


@pytest.mark.filterwarnings("ignore")
def test_compiled_attention_under_a_mask():
    torch._dynamo.reset()
    q = torch.randn(2, 3, 5, 4)
    for options in ({"is_causal": True}, {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril()}):
        attend = functools.partial(F.scaled_dot_product_attention, dropout_p=0.5, **options)
        torch.manual_seed(1)
        y = torch.compile(lambda q: attend(q, q, q), backend="aot_eager", fullgraph=True)(q)  # noqa: B023
        torch.manual_seed(1)
        torch.testing.assert_close(y, attend(q, q, q))
    torch._dynamo.reset()


def test_operators_are_well_formed():
    x = torch.randn(4, 6, requires_grad=True)
    seed = torch.tensor([5, -1])
    for law in ((0.3, [], [], 2.0, 0.0, 0.0), (0.3, [4, 1], [], 2.0, 0.5, -1.0), (0.3, [], [2, 3], 2.0, 0.0, 0.0)):
        torch.library.opcheck(torch.ops.fastdrop.drop.default, (x, seed, *law))
    w = torch.randn(5, 6, requires_grad=True)
    torch.library.opcheck(torch.ops.fastdrop.connect.default, (x, w, seed, 0.5))


@each_kind
def test_vmap(kind):
    x = images()
    single = functools.partial(torch.func.vmap, lambda x: kind(x[None])[0])
    with pytest.raises(RuntimeError, match="randomness error mode"):
        single()(torch.ones_like(x))
    y = single(randomness="same")(torch.ones_like(x))
    assert bool((y == y[:1]).all())
    y = single(randomness="different")(torch.ones_like(x))
    assert not bool((y == y[:1]).all())
    torch.manual_seed(2)
    y = single(randomness="same", in_dims=1, out_dims=1)(x.transpose(0, 1))
    torch.manual_seed(2)
    assert torch.equal(y.transpose(0, 1)[0], kind(x[:1])[0])


@each_kind
def test_func(kind):
    x = images()

    def f(x):
        return (kind(x) ** 2).sum()

    torch.manual_seed(2)
    g = torch.func.grad(f)(x)
    torch.manual_seed(2)
    _, tangent = torch.func.jvp(f, (x,), (torch.ones_like(x),))
    torch.manual_seed(2)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(leaf), leaf)
    assert torch.equal(g, expected)
    torch.testing.assert_close(tangent, expected.sum())
    per_example = torch.func.vmap(torch.func.grad(lambda x: f(x[None])), randomness="different")(x)
    assert per_example.shape == x.shape
    small = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    hessian = torch.func.jacfwd(torch.func.jacrev(f), randomness="same")(small)
    assert hessian.shape == (1, 1, 2, 2) * 2


def test_fake_tensors_and_modes():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    torch.manual_seed(1)
    with Watch():
        y = F.dropout(torch.ones(64), 0.5)
    assert "fastdrop.drop.default" in seen
    torch.manual_seed(1)
    assert torch.equal(y, F.dropout(torch.ones(64), 0.5))
    with torch._subclasses.FakeTensorMode():
        assert F.dropout(torch.ones(3, 4), 0.5).shape == (3, 4)


def test_a_tensor_that_outlived_its_transform():
    leaked = []
    torch.func.grad(lambda x: (leaked.append(x), x.sum())[1])(torch.ones(64))
    assert set(F.dropout(leaked[0], 0.5).tolist()) == {0.0, 2.0}


@pytest.mark.filterwarnings("ignore")
def test_jit_traces_pytorchs_own():
    traced = torch.jit.trace(lambda x: F.dropout(x, 0.5), torch.ones(64), check_trace=False)
    assert "aten::dropout" in str(traced.graph)
    assert not torch.equal(traced(torch.ones(64)), traced(torch.ones(64)))


def test_threads_draw_apart():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        masks = list(pool.map(lambda _: tuple(F.dropout(torch.ones(128), 0.5).tolist()), range(400)))
    assert len(set(masks)) == 400


def test_inference_mode():
    """The first draw of a thread may come in there; later ones must work outside."""
    code = (
        "import torch, fastdrop.torch as ft\n"
        "with torch.inference_mode(): ft.functional.dropout(torch.ones(4))\n"
        "ft.functional.dropout(torch.ones(4, requires_grad=True)).sum().backward()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_autocast():
    layer = torch.nn.Sequential(torch.nn.Linear(8, 8), ft.Dropout(0.5), torch.nn.Linear(8, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.randn(4, 8))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()


class _Dropped(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return F.dropout(torch.ones(64), 0.5)


def test_data_loader_workers():
    """PyTorch seeds each worker: masks differ between them, and repeat with the seed."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    runs = []
    for _ in range(2):
        torch.manual_seed(4)
        loader = torch.utils.data.DataLoader(_Dropped(), num_workers=2, multiprocessing_context="fork")
        runs.append(torch.cat(list(loader)))
    assert torch.equal(*runs)
    assert len({tuple(row.tolist()) for row in runs[0]}) == 4


# It ends at once: PyTorch's own threads abort a process that takes its group down, in one run of eight or so.
RANK = """
import os, sys, torch, torch.distributed as dist, fastdrop.torch as ft
rank, seed, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(64, 64), ft.Dropout(0.5)))
torch.manual_seed(seed)
y = model(torch.ones(8, 64))
y.sum().backward()
mask = (y != 0).float()
masks, gradients = ([torch.empty_like(t) for _ in range(2)] for t in (mask, model.module[0].weight.grad))
dist.all_gather(masks, mask)
dist.all_gather(gradients, model.module[0].weight.grad)
print(torch.equal(*masks), torch.equal(*gradients), flush=True)
dist.barrier()
os._exit(0)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch has no torch.distributed here")
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
def test_ddp(seeds, tmp_path):
    """Masks differ between ranks if the seeds do; gradients are averaged all the same."""
    arguments = [[sys.executable, "-c", RANK, str(r), str(s), str(tmp_path / "store")] for r, s in enumerate(seeds)]
    ranks = [subprocess.Popen(a, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for a in arguments]
    outputs = [rank.communicate(timeout=300) for rank in ranks]
    for rank, (out, err) in zip(ranks, outputs):
        assert rank.returncode == 0, err
        assert out.split() == [str(seeds[0] == seeds[1]), "True"]


def test_the_compiler_is_not_imported_for_those_who_do_not_compile():
    code = (
        "import fastdrop.torch, sys, torch\n"
        "fastdrop.torch.functional.dropout(torch.ones(3, dtype=torch.int64), 0.5, False)\n"
        "assert not {'torch._dynamo', 'torch.distributed.tensor'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import fastdrop; import fastdrop.torch"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert 'ImportError: fastdrop.torch needs torch: pip install "fastdrop[torch]"' in run.stderr


def test_tensors_without_memory():
    """Zeros that were never made, and what functionalization wraps: their address is none."""
    torch.manual_seed(0)
    assert torch.equal(F.dropout(torch._efficientzerotensor((5,)), 0.5), torch.zeros(5))
    wrapped = torch._to_functional_tensor(torch.ones(64))
    torch._enable_functionalization(reapply_views=True)
    try:
        y = F.dropout(wrapped, 0.5)
    finally:
        torch._disable_functionalization()
    torch._sync(y)
    assert set(torch._from_functional_tensor(y).tolist()) == {0.0, 2.0}


@each_kind
def test_functionalize(kind):
    x = images()
    functionalize, grad = torch.func.functionalize, torch.func.grad

    def f(x, inplace=False):
        return (kind(x * 1, inplace=inplace) ** 2).sum()

    torch.manual_seed(2)
    expected = grad(f)(x)
    for g in (functionalize(grad(f)), grad(functionalize(f)), functionalize(grad(functools.partial(f, inplace=True)))):
        torch.manual_seed(2)
        torch.testing.assert_close(g(x), expected)
    per_example = torch.func.vmap(grad(lambda x: f(x[None])), randomness="different")
    assert functionalize(per_example)(x).shape == x.shape


def test_storage_stays_resizable():
    """As it has to for fully_shard, which frees weights between uses."""
    x, w = torch.randn(3, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    F.dropconnect(x, w).sum().backward()
    F.dropout(w).sum().backward()
    assert x.untyped_storage().resizable() and w.untyped_storage().resizable()


def test_sparse_gradients():
    x = torch.ones(6, 5, requires_grad=True)
    y = F.alpha_dropout(x, 0.5, True, generator=fd.Generator(0))
    g = torch.eye(6)[:, :5] * 3
    (expected,) = torch.autograd.grad(y, x, g, retain_graph=True)
    (dx,) = torch.autograd.grad(y, x, g.to_sparse())
    assert torch.equal(dx.to_dense(), expected) and 0 < expected.count_nonzero() < 5
    # as of an embedding, whose optimizers want them sparse
    (dx,) = torch.autograd.grad(torch.nn.functional.embedding(torch.tensor([1, 1]), F.dropout(x), sparse=True).sum(), x)
    assert dx.is_sparse and set(dx.to_dense()[1].tolist()) <= {0.0, 4.0} and not dx.to_dense()[2:].any()


def test_subclasses_that_know_only_pytorchs_operators():
    class Known(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            if function.namespace != "aten":
                raise NotImplementedError(function)
            with torch._C._DisableTorchDispatch():
                return function(*args, **(kwargs or {}))

    x = torch.ones(4, 64).as_subclass(Known)
    for y in (F.dropout(x, 0.5), F.dropout2d(x[..., None, None], 0.5), ft.Dropout(0.5, inplace=True)(x * 1)):
        assert set(y.flatten().tolist()) == {0.0, 2.0}
    assert F.scaled_dot_product_attention(x, x, x, dropout_p=0.5).shape == x.shape


def test_a_fake_tensor_outside_its_mode():
    with torch._subclasses.FakeTensorMode():
        x = torch.ones(3, 4, requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    assert type(y) is type(x.grad) is torch._subclasses.FakeTensor
