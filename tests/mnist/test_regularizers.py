"""Reading regularizers."""

from __future__ import annotations

import pytest

from fastdrop.mnist.regularizers import REGULARIZERS, Plan, parse


def test_none_is_nothing() -> None:
    assert parse("none") == parse(" none ") == Plan()
    assert (Plan().text, Plan().label, Plan().family, Plan().parts) == ("none", "none", "none", ())


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_name_alone(name: str) -> None:
    plan = parse(name)
    kind = REGULARIZERS[name]
    assert plan.parts == ((name, kind.value),)
    assert plan.family == name
    assert (plan.noise == name and plan.p == kind.value) == kind.drops
    assert parse(plan.text) == plan
    if kind.value is not None:
        assert parse(f" {name} = {kind.value}") == plan


def test_a_combination_in_any_order_is_the_same() -> None:
    plan = parse("l2=1e-3 + batch-norm+ dropout=.25+max-norm+label-smoothing+early-stopping=0")
    assert plan == Plan("dropout", 0.25, True, 1e-3, 3.0, 0.1, 0)
    assert plan.text == "dropout=0.25+batch-norm+l2=0.001+max-norm=3+label-smoothing=0.1+early-stopping=0"
    assert plan.label == "dropout p=0.25 + batch-norm + l2 0.001 + max-norm 3 + label-smoothing 0.1 + early-stopping 0"
    assert plan.family == "dropout+batch-norm+l2+max-norm+label-smoothing+early-stopping"
    assert parse(plan.text) == plan
    assert parse("+".join(reversed(plan.text.split("+")))) == plan


@pytest.mark.parametrize("p", [1 / 3, 0.1234567, 1e-7, 0.9999999])
def test_a_text_holds_every_p(p: float) -> None:
    assert parse(parse(f"dropout={p}").text).p == p


@pytest.mark.parametrize("value", [1e6, 1e20, 12345678.0, 1e-9])
def test_a_text_holds_every_value(value: float) -> None:
    plan = parse(f"l2+max-norm={value!r}+early-stopping=2")
    assert plan.max_norm == value
    assert parse(plan.text) == plan
    assert parse(f"max-norm={value:.9e} + l2+early-stopping=2") == plan


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is none of that name"),
        ("dropout+", "there is none of that name"),
        ("none+dropout", "there is none of that name"),
        ("Dropout", "there is none of that name"),
        ("dropout+dropout=.2", "dropout is there twice"),
        ("dropout+gaussian", "dropout and gaussian both drop"),
        ("dropout=much", "dropout takes a number, but got 'much'"),
        ("dropout=", "dropout takes a number, but got ''"),
        ("dropout=2", "between 0 and 1, but got 2"),
        ("dropout=nan", "between 0 and 1, but got nan"),
        ("dropout=0", "above 0 and below 1, but got 0"),
        ("dropout=1", "above 0 and below 1, but got 1"),
        ("batch-norm=1", "batch-norm takes no value, but got '1'"),
        ("l2=0", "l2 has to be above 0"),
        ("l2=-1", "l2 has to be above 0"),
        ("l2=nan", "l2 has to be above 0"),
        ("max-norm=inf", "max-norm has to be above 0 and below inf, but got inf"),
        ("label-smoothing=1", "label-smoothing has to be above 0 and below 1, but got 1"),
        ("early-stopping=1.5", "a whole number of epochs, but got 1.5"),
        ("early-stopping=-1", "a whole number of epochs, but got -1"),
        ("early-stopping=inf", "a whole number of epochs, but got inf"),
    ],
)
def test_what_is_none_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^regularizer ") as error:
        parse(text)
    assert repr(text) in str(error.value)
    assert complaint in str(error.value)


def test_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a regularizer is a text"):
        parse(0.5)  # type: ignore[arg-type]
