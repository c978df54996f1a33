"""The tape: accumulation, freeing, grad mode, and what in-place operations may not do."""

import threading
import weakref

import numpy as np
import pytest

import fastdrop
from fastdrop import nn
from fastdrop.nn import Tensor, enable_grad, is_grad_enabled, no_grad, ones, tensor
from fastdrop.nn import functional as F


def test_gradients_accumulate_over_paths_and_calls():
    x = tensor([2.0], requires_grad=True)
    y = x * 3
    (y * y + y).backward()
    assert x.grad.tolist() == [39.0]
    (x * 1).backward()
    assert x.grad.tolist() == [40.0]


def test_leaves_do_not_share_one_gradient_array():
    a, b = ones(3, requires_grad=True), ones(3, requires_grad=True)
    seed = np.ones(3, dtype=np.float32)
    (a + b).backward(seed)
    a.grad.array[0] = 7
    assert b.grad.tolist() == [1, 1, 1]
    assert seed.tolist() == [1, 1, 1]


def test_same_leaf_twice():
    a = ones(3, requires_grad=True)
    (a + a).sum().backward()
    assert a.grad.tolist() == [2, 2, 2]


def test_second_backward_is_refused_unless_retained():
    x = tensor([3.0], requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_second_backward_through_a_shared_part_is_refused():
    x = tensor([3.0], requires_grad=True)
    y = x * x
    a, b = y + 1, y + 2
    a.backward()
    with pytest.raises(RuntimeError, match="second time"):
        b.backward()


def test_backward_frees_what_the_graph_saved():
    x = ones(4, requires_grad=True)
    y = x.exp()
    saved = weakref.ref(y.array)
    z = y.sum()
    del y
    assert saved() is not None
    z.backward()
    assert saved() is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ones(2).backward(), "does not require grad"),
        (lambda: ones(2, requires_grad=True).backward(), "only for scalar outputs"),
        (lambda: ones(2, requires_grad=True).backward(np.ones(3)), "Mismatch in shape"),
        (lambda: tensor([1], requires_grad=True), "floating point"),
        (lambda: (ones(2, requires_grad=True) * 2).requires_grad_(False), "leaf"),
        (lambda: ones(2, requires_grad=True).numpy(), "detach"),
        (lambda: np.asarray(ones(2, requires_grad=True)), "detach"),
    ],
)
def test_errors(make, message):
    with pytest.raises(RuntimeError, match=message):
        make()


def test_backward_on_a_leaf():
    x = ones(2, requires_grad=True)
    x.backward(np.array([1.0, 2.0]))
    assert x.grad.tolist() == [1, 2]


def test_deep_graph():
    x = ones(1, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y + 1
    y.backward()
    assert x.grad.tolist() == [1]


def test_grad_mode():
    x = ones(2, requires_grad=True)
    with no_grad():
        assert not is_grad_enabled()
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        assert not is_grad_enabled()

    @no_grad()
    def double(t, depth=1):
        return double(t, depth - 1) if depth else t * 2

    assert not double(x).requires_grad
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert is_grad_enabled()


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# --- in place -------------------------------------------------------------------------------------------------------


def drop(x):
    return F.dropout(x, 0.5, inplace=True)


def test_in_place_after_relu_and_linear():
    gradients = []
    for inplace in (False, True):
        fastdrop.manual_seed(3)
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace), nn.Dropout(0.5, inplace), nn.Linear(8, 2))
        model(np.ones((4, 5), np.float32)).sum().backward()
        gradients.append([p.grad.array for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("saver", "operation"),
    [
        ("exp", lambda x: x.exp()),
        ("tanh", lambda x: x.tanh()),
        ("softmax", lambda x: x.softmax(-1)),
        ("sqrt", lambda x: x.sqrt()),
    ],
)
@pytest.mark.parametrize("view", [lambda y: y, lambda y: y.flatten(), lambda y: y.reshape(3, 2), lambda y: y.T])
def test_in_place_is_refused_where_the_result_is_saved(saver, operation, view):
    x = ones(2, 3, requires_grad=True)
    y = operation(x)
    before = y.array.copy()
    with pytest.raises(RuntimeError, match=f"dropout: cannot work in place, the backward of {saver}"):
        drop(view(y))
    np.testing.assert_array_equal(y.array, before)


def test_in_place_is_refused_where_a_later_operation_saved_the_input():
    x = ones(2, 3, requires_grad=True)
    h = x * 2
    z = h * h
    with pytest.raises(RuntimeError, match="backward of mul"):
        drop(h)
    with pytest.raises(RuntimeError, match="backward of mul"):
        F.relu(h.flatten(), inplace=True)
    z.sum().backward()  # Once the graph is gone nobody needs the values.
    drop(h.detach())


def test_in_place_is_allowed_when_the_saver_is_gone():
    x = ones(2, 3, requires_grad=True)
    h = x * 2
    z = h * h
    del z
    drop(h).sum().backward()
    assert x.grad is not None


def test_refused_in_place_draws_no_mask():
    x = ones(3, requires_grad=True).exp()
    rng = fastdrop.Generator(5)
    before = rng.state
    with pytest.raises(RuntimeError):
        F.dropout(x, inplace=True, generator=rng)
    assert rng.state == before


def test_in_place_on_leaves():
    x = ones(4, requires_grad=True)
    for target, message in ((x, "a leaf Variable that requires grad"), (x.reshape(2, 2), "a view of a leaf Variable")):
        with pytest.raises(RuntimeError, match=message):
            drop(target)
        with pytest.raises(RuntimeError, match=message):
            F.relu(target, inplace=True)
        with pytest.raises(RuntimeError, match=message):
            target += 1


def test_other_views_are_stale_after_a_recorded_change():
    x = ones(4, requires_grad=True)
    h = x * 2
    flat = h.flatten().reshape(2, 2)
    assert drop(flat) is flat
    with pytest.raises(RuntimeError, match="shares memory"):
        h.sum()
    flat.sum().backward()
    np.testing.assert_array_equal(x.grad.array, flat.array.reshape(-1))


def test_change_under_no_grad_is_found_at_backward():
    x = ones(3, requires_grad=True)
    w = ones(3, requires_grad=True)
    y = (x * w).sum()
    with no_grad():
        w += 1
    assert w.tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="modified by an inplace operation: mul"):
        y.backward()


def test_in_place_on_read_only_memory():
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        drop(Tensor(frozen))


def test_in_place_arithmetic_is_recorded():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    same = y
    y += 1
    y *= 2
    y -= x
    y /= 2
    assert y is same
    y.sum().backward()
    assert y.tolist() == [3.5, 6.0]
    assert x.grad.tolist() == [2.5, 2.5]


def test_in_place_arithmetic_that_needs_its_own_old_values_is_refused():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    with pytest.raises(RuntimeError, match="mul"):
        y *= x
    with pytest.raises(RuntimeError, match="broadcast"):
        y += ones(3, 2, requires_grad=True)


def test_manual_descent_keeps_the_parameter():
    p = nn.Parameter(np.ones(2, np.float32))
    same = p
    (p * p).sum().backward()
    with no_grad():
        p -= 0.25 * p.grad
    assert p is same and p.requires_grad and p.is_leaf
    assert p.tolist() == [0.5, 0.5]


def test_assignment():
    x = nn.zeros(3)
    x[0] = 2
    x[tensor([1, 2])] = tensor([3.0, 4.0])
    assert x.tolist() == [2, 3, 4]
    assert x.copy_(np.arange(3)).zero_().tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="not recorded"):
        (ones(3, requires_grad=True) * 1)[0] = 1


def test_a_leafs_gradient_is_not_the_array_that_travels_on():
    x, w = nn.ones(3, requires_grad=True), nn.ones(3, requires_grad=True)
    a = x * 1.0
    ((a * 2.0 + w * 10.0) + (w + a) * 3.0).sum().backward()
    assert x.grad.tolist() == [5.0] * 3
    assert w.grad.tolist() == [13.0] * 3


def test_views_that_need_no_gradient_go_stale_too():
    w = nn.ones(3, requires_grad=True)
    base = nn.zeros(3)
    view = base[:2]
    base.add_(w)
    with pytest.raises(RuntimeError, match="shares memory"):
        view * view
    with pytest.raises(RuntimeError, match="shares memory"):
        view.mul_(2)


def test_detached_tensors_never_go_stale():
    h = nn.ones(3, requires_grad=True) * 2
    seen = h.detach()
    nn.functional.relu(h, inplace=True)
    assert (seen + 1).tolist() == [3.0] * 3


def test_a_view_taken_under_no_grad_is_not_changed_in_place():
    h = nn.ones(3, requires_grad=True) * 2
    with no_grad():
        view = h[:2]
    assert (view + 1).tolist() == [3.0, 3.0]
    for of in (view, view.reshape(2, 1)):
        with pytest.raises(RuntimeError, match="taken under no_grad"):
            of.mul_(5)
    with no_grad():
        view.mul_(5)
    assert h.tolist() == [10.0, 10.0, 2.0]
