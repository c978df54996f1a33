"""What is added up when, without MPI: the other process is thought to have the very same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastdrop import nn, optim
from fastdrop.nn import autograd
from fastdrop.nn.parallel import Team, make_team
from fastdrop.nn.scores import Seen
from fastdrop.nn.shared_step import Buckets, shared_step


class Request:
    """A sum under way: it arrives when someone waits for it, or at the second look."""

    def __init__(self, comm: Echo, arrive: Any) -> None:
        self.comm, self.arrive, self.looks = comm, arrive, 0

    def Test(self) -> bool:
        self.looks += 1
        self.comm.log.append("test")
        if self.looks == 2:
            self.Wait()
        return self.looks >= 2

    def Wait(self) -> None:
        if self.arrive:
            self.arrive()
        self.arrive = None


class Echo:
    """A communicator in which all processes send the same."""

    def __init__(self, size: int = 2, rank: int = 0) -> None:
        self.size, self.rank = size, rank
        self.log: list[Any] = []
        self.sent: list[Any] = []

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return self.size

    def Allreduce(self, sent: Any, received: Any) -> None:
        np.multiply(sent, self.size, out=received)

    def Iallreduce(self, sent: Any, received: Any) -> Request:
        self.log.append((sent.dtype.name, sent.size))
        self.sent.append(sent)
        return Request(self, lambda: np.multiply(sent, self.size, out=received))

    def Bcast(self, buffer: Any, root: int) -> None:
        pass

    def Abort(self, code: int) -> None:
        raise AssertionError("aborted")


def parameters(*sizes: int, dtype: Any = np.float32) -> list[nn.Parameter]:
    return [nn.Parameter(np.full(size, i + 1, dtype)) for i, size in enumerate(sizes)]


def buckets(comm: Echo, trained: list[Any], limit: int, own: Seen = Seen(1, 0.5, 1)) -> Buckets:  # noqa: B008
    return Buckets(Team(comm), trained, own, 2, FloatingPointError, limit)


def added(comm: Echo, value: nn.Tensor, trained: list[Any], limit: int) -> Seen:
    made = buckets(comm, trained, limit)
    with autograd.no_grad():
        autograd.backward(value, np.ones_like(value.array), watch=made)
    return made.finish()


def messages(comm: Echo) -> list[Any]:
    return [entry for entry in comm.log if entry != "test"]


#: What goes first: loss, right ones, whether there are classes, which layers were called.
FACTS = ("float64", 5)


def test_gradients_fill_buckets_as_backward_finds_them() -> None:
    comm, ps = Echo(), parameters(10, 20, 30, 40)
    value = ps[0].sum()
    for p in ps[1:]:
        value = value + (p * 3).sum()
    whole = added(comm, value, ps, limit=4 * 45)
    assert whole == Seen(2, 1.0, 2)
    # The last first; 40 and 30 fill one.
    assert messages(comm) == [FACTS, ("float32", 70), ("float32", 30)]
    for i, p in enumerate(ps):
        assert p.grad is not None and p.grad.shape == p.shape
        np.testing.assert_array_equal(p.grad.array, 6 if i else 2)


def test_a_bucket_is_under_way_before_backward_has_ended() -> None:
    comm, ps = Echo(), parameters(8, 8, 8)
    state: list[int] = []

    def look(dy: Any) -> tuple[Any]:
        state.append(len(messages(comm)))
        return (dy,)

    first = autograd.record("look", ps[0].array.copy(), (ps[0],), look)
    added(comm, (first.sum() + ps[1].sum()) + ps[2].sum(), ps, limit=32)
    assert state == [3]  # the facts, and two gradients
    # MPI is given time at each gradient that comes.
    assert comm.log.index("test") < comm.log.index(("float32", 8), 3)


def test_a_large_gradient_is_sent_as_it_lies() -> None:
    comm, (p,) = Echo(), parameters(100)
    made = buckets(comm, [p], limit=400)
    value = (p * 2).sum()
    before = []
    made_ready = made.ready

    def ready(leaf: Any) -> None:
        before.append(leaf.grad.array)
        made_ready(leaf)

    made.ready = ready  # type: ignore[method-assign]
    with autograd.no_grad():
        autograd.backward(value, np.ones_like(value.array), watch=made)
    made.finish()
    assert np.shares_memory(comm.sent[1], before[0])


def test_a_parameter_used_twice_is_sent_once_and_whole() -> None:
    comm, (p, q) = Echo(), parameters(4, 4)
    added(comm, (p * q).sum() + p.sum() + (p * 5).sum(), [p, q], limit=1)
    assert messages(comm) == [FACTS, ("float32", 4), ("float32", 4)]
    np.testing.assert_array_equal(p.grad.array, 2 * (2 + 1 + 5))  # type: ignore[union-attr]


def test_what_has_no_gradient_gets_none_and_what_is_not_trained_is_not_sent() -> None:
    comm, (p, q, unused) = Echo(), parameters(3, 4, 5)
    added(comm, p.sum() + q.sum(), [p, unused], limit=1)
    assert messages(comm) == [FACTS, ("float32", 3)]
    assert unused.grad is None
    np.testing.assert_array_equal(q.grad.array, 1)  # type: ignore[union-attr]


def test_dtypes_have_messages_of_their_own_and_halves_are_added_up_in_float32() -> None:
    comm = Echo()
    (a,), (b,), (c,) = (parameters(3, dtype=dtype) for dtype in (np.float64, np.float16, np.float32))
    value = (a * 1.0).sum() + ((b * 1.0).sum() + (c * 1.0).sum()).reshape(())
    added(comm, value, [a, b, c], limit=1 << 20)
    assert sorted(messages(comm)[1:]) == [("float32", 3), ("float32", 3), ("float64", 3)]
    for p in (a, b, c):
        assert p.grad is not None and p.grad.dtype == p.dtype
        np.testing.assert_array_equal(p.grad.array, 2)


def test_a_gradient_in_another_order_and_one_of_no_axes() -> None:
    comm = Echo()
    p, q = nn.Parameter(np.arange(6.0).reshape(2, 3).T), nn.Parameter(np.array(2.0))
    added(comm, (p * p).sum() * q, [p, q], limit=1 << 20)
    np.testing.assert_array_equal(p.grad.array, 2 * 2 * 2.0 * p.array)  # type: ignore[union-attr]
    np.testing.assert_array_equal(q.grad.array, 2 * 55.0)  # type: ignore[union-attr]


def test_an_example_that_another_has_counts_nothing() -> None:
    comm, (p,) = Echo(), parameters(3)
    made = buckets(comm, [p], 1, Seen(0, 0.0, 0))
    value = p.sum()
    with autograd.no_grad():
        autograd.backward(value, np.ones_like(value.array), watch=made)
    made.finish()
    np.testing.assert_array_equal(p.grad.array, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_raised_before_anything_is_sent(loss: float) -> None:
    comm, (p,) = Echo(), parameters(3)
    made = buckets(comm, [p], 1, Seen(1, loss, 1))
    value = p.sum()
    with pytest.raises(FloatingPointError), autograd.no_grad():
        autograd.backward(value, np.ones_like(value.array), watch=made)
    assert messages(comm) == [FACTS]


def test_other_layers_on_another_process_are_found_out() -> None:
    class Other(Echo):
        def Iallreduce(self, sent: Any, received: Any) -> Request:
            known = sent[3] + 1
            return Request(self, lambda: np.add(sent, [*sent[:3], known, known**2], out=received))

    (p,) = parameters(3)
    made = buckets(Other(), [p], 1)
    value = p.sum()
    with pytest.raises(RuntimeError, match="called different layers"), autograd.no_grad():
        autograd.backward(value, np.ones_like(value.array), watch=made)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 127])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_parts_are_as_even_as_can_be(count: int, size: int) -> None:
    parts = [Team(Echo(size, rank)).part(count) for rank in range(size)]
    whole = np.arange(count)
    for own, part in zip(np.array_split(whole, size), parts, strict=True):
        assert part.weight == len(own) / count
        rows = whole[part.rows]
        np.testing.assert_array_equal(rows, own if len(own) else [0])
        # What layers are told is where these rows lie.
        assert part.shard.place(len(rows)) == (rows[0], 1, count)
    assert sum(part.weight for part in parts) == pytest.approx(1)


def test_a_step_is_that_of_the_own_part_where_the_other_has_the_same() -> None:
    rng = np.random.default_rng(0)
    half, targets = rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 3, 5)
    X, y = np.concatenate([half, half]), np.concatenate([targets, targets])
    model, plain = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    team = make_team(Echo())
    assert team is not None
    loss = nn.functional.cross_entropy
    whole = shared_step(team, model, loss, optim.SGD(model.parameters(), lr=0.1), X, y, np.arange(10), ValueError)
    value = loss(plain(nn.as_tensor(half)), nn.as_tensor(targets))
    value.backward()
    optim.SGD(plain.parameters(), lr=0.1).step()
    assert whole.loss == pytest.approx(10 * value.item(), rel=1e-6)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-6, atol=1e-7)


def test_a_network_without_a_parameter_says_so_as_alone() -> None:
    team = make_team(Echo())
    assert team is not None
    p = nn.Parameter(np.ones(3, np.float32))
    X, y = np.ones((4, 3), np.float32), np.zeros(4, np.int64)
    with pytest.raises(RuntimeError, match="does not require grad"):
        shared_step(
            team, nn.Flatten(), nn.functional.cross_entropy, optim.SGD([p], lr=0.1), X, y, np.arange(4), ValueError
        )


def test_alone_there_is_no_team() -> None:
    assert make_team(None) is None
    assert make_team(Echo(size=1)) is None
