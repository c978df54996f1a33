"""What can be wrong with numbers, words, flags, shapes and generators."""

from __future__ import annotations

import numpy as np

import fastdrop as fd

from .check import Wrong, always

TYPE, VALUE = TypeError, ValueError
EITHER = (TypeError, ValueError)
SHAPED = (ValueError, RuntimeError, IndexError)

P = r"dropout probability|\b{name}\b"
BETWEEN = r"between 0 and 1"

PROBABILITIES = (
    Wrong("above 1", always(1.5), VALUE, (P, r"1\.5", BETWEEN)),
    Wrong("just above 1", always(1 + 2**-52), VALUE, (P, r"1\.0000000000000002", BETWEEN)),
    Wrong("below 0", always(-0.1), VALUE, (P, r"-0\.1", BETWEEN)),
    Wrong("below 0, an int", always(-1), VALUE, (P, r"-1", BETWEEN)),
    Wrong("NaN", always(float("nan")), VALUE, (P, "nan", BETWEEN)),
    Wrong("infinite", always(float("inf")), VALUE, (P, "inf", BETWEEN)),
    Wrong("beyond floats", always(10**400), VALUE, (P, "no float holds", BETWEEN)),
    Wrong("a string", always("0.5"), TYPE, (P, "'0.5'", BETWEEN)),
    Wrong("a bool", always(True), TYPE, (P, "True", BETWEEN)),
    Wrong("None", always(None), TYPE, (P, "None", BETWEEN)),
    Wrong("complex", always(0.5j), TYPE, (P, r"0\.5j", BETWEEN)),
    Wrong("a list", always([0.5]), TYPE, (P, r"\[0\.5\]", BETWEEN)),
    Wrong("an array", always(np.full(3, 0.5)), TYPE, (P, r"array\(\[0\.5", BETWEEN)),
)

FLAG = r"{name} has to be True or False"
FLAGS = (
    Wrong("a string", always("False"), TYPE, (FLAG, "'False'")),
    Wrong("None", always(None), TYPE, (FLAG, "None")),
    Wrong("an array", always(np.array([True, False])), TYPE, (FLAG, r"array\(\[ ?True")),
    Wrong("a number", always(2), TYPE, (FLAG, "2")),
)

GENERATOR = r"(rng|generator) has to be a fastdrop\.Generator"
GENERATORS = (
    Wrong("NumPy's", always(np.random.default_rng(0)), TYPE, (GENERATOR, "got a Generator")),
    Wrong("a seed", always(3), TYPE, (GENERATOR, "got a int")),
    Wrong("a mask", always(fd.Mask(0, 0, 0.5, 3)), TYPE, (GENERATOR, "got a Mask")),
    Wrong("the class", always(fd.Generator), TYPE, (GENERATOR, "got a type")),
)


NOISE_SHAPES = (
    Wrong("a string", always("ab"), TYPE, ("noise_shape has to be", "'ab'", "sequence of integers"), ("mask",)),
    Wrong("an int", always(3), TYPE, ("noise_shape has to be", "3", "sequence of integers")),
    Wrong("too long", always((1,) * 9), VALUE, ("noise_shape may have at most", r"\(1, 1")),
    Wrong("of another extent", always((3,)), VALUE, ("noise_shape has to hold", r"\(3,\)", "1, None or the extent")),
    Wrong("of floats", always((1.0,)), TYPE, ("noise_shape has to be", r"1\.0", "integer")),
    Wrong("negative", always((-1,)), VALUE, ("noise_shape has to be", "-1", "between 0")),
)

WORDS = (
    Wrong(
        "another word",
        always("sideways"),
        (VALUE, RuntimeError),
        (r"{name}|[Mm]ode|nonlinearity", "'sideways'", "one of|use|or '|relu/gelu"),
    ),
    Wrong(
        "an array",
        always(np.array(["a", "b"])),
        (*EITHER, RuntimeError),
        (r"{name}|[Mm]ode|nonlinearity", r"array\(\['a'", "one of|use|or '|relu/gelu"),
    ),
    Wrong(
        "a number",
        always(3),
        (*EITHER, RuntimeError),
        (r"{name}|[Mm]ode|nonlinearity", "3", "one of|use|or '|relu/gelu"),
    ),
)

AXES = (
    Wrong("beyond the last", always(9), SHAPED, (r"{name}", "9", "between|expected it in|axis of")),
    Wrong("before the first", always(-9), SHAPED, (r"{name}", "-9", "between|expected it in|axis of")),
    Wrong("a float", always(0.5), TYPE, (r"{name}", r"0\.5", "integer")),
    Wrong("a bool", always(True), TYPE, (r"{name}", "True", "integer")),
    Wrong("a string", always("1"), TYPE, (r"{name}", "'1'", "integer")),
    Wrong("beyond 64 bits", always(2**70), SHAPED, (r"{name}", str(2**70), "between|expected it in|axis of")),
)

BLOCKS = (
    Wrong("0", always(0), VALUE, ("block_size has to be", "0", "between 1")),
    Wrong("negative", always(-3), VALUE, ("block_size has to be", "-3", "between 1")),
    Wrong("a float", always(2.5), TYPE, ("block_size has to be", r"2\.5", "integer")),
    Wrong("a string", always("3"), TYPE, ("block_size has to be", "'3'", "integer")),
    Wrong(
        "of too many axes", always((1, 2, 3, 4)), VALUE, ("block_size has to be", r"\(1, 2, 3, 4\)", "an integer or")
    ),
)


SHAPES = (
    Wrong("negative", always((4, -6)), VALUE, (r"shape|size", "-6", "between 0|non-negative|-1")),
    Wrong("of floats", always((4.0, 6.0)), TYPE, (r"shape|size", r"4\.0", "integer")),
    Wrong("a float", always(4.5), TYPE, (r"shape|size", r"4\.5", "integer")),
    Wrong("a string", always("46"), TYPE, (r"shape|size", "'46'", "integer")),
    Wrong("of a bool", always((True, 6)), TYPE, (r"shape|size", "True", "integer")),
    Wrong("None", always(None), TYPE, (r"shape|size", "None", "integer")),
    Wrong("of 65 axes", always((1,) * 65), VALUE, (r"shape|size", "more", "at most 64")),
    Wrong(
        "of 2**63 elements",
        always((2**32, 2**31)),
        VALUE,
        (r"shape|size", "4294967296", r"2\*\*63|elements|axes|extent"),
    ),
    Wrong("of 2**70", always((2**70,)), VALUE, (r"shape|size", str(2**70), "between 0|elements")),
)

WORDS64 = (
    Wrong("negative", always(-1), VALUE, (r"{name}", "-1", "between 0")),
    Wrong("2**64", always(2**64), VALUE, (r"{name}", str(2**64), "between 0")),
    Wrong("of 5000 digits", always(10**5000), VALUE, (r"{name}", "an int", "between 0")),
    Wrong("a float", always(1.0), TYPE, (r"{name}", r"1\.0", "integer")),
    Wrong("a string", always("1"), TYPE, (r"{name}", "'1'", "integer")),
    Wrong("a bool", always(True), TYPE, (r"{name}", "True", "integer")),
    Wrong("None", always(None), TYPE, (r"{name}", "None", "integer")),
)

SEEDS = (
    Wrong("negative", always(-1), VALUE, ("seed has to be", "-1", "non-negative")),
    Wrong("a float", always(1.5), TYPE, ("seed has to be", r"1\.5", "non-negative integer")),
    Wrong("a string", always("1"), TYPE, ("seed has to be", "'1'", "non-negative integer")),
    Wrong("a bool", always(True), TYPE, ("seed has to be", "True", "non-negative integer")),
    Wrong("of floats", always([1, 0.5]), TYPE, ("seed has to be", r"0\.5", "sequence")),
    Wrong(
        "a matrix of floats", always(np.ones((2, 2)).view(np.matrix)), TYPE, ("seed has to be", "matrix", "sequence")
    ),
)

DTYPES = (
    Wrong("no dtype", always("float33"), TYPE, ("dtype has to be", "float33", "such as 'float32'")),
    Wrong("objects", always(object), TYPE, ("dtype has to be", "object", "real numbers")),
    Wrong("complex", always(np.complex64), TYPE, ("dtype has to be", "complex64", "real numbers")),
    Wrong("an array", always(np.ones(2)), TYPE, ("dtype has to be", "array", "real numbers")),
    Wrong("None", always(None), TYPE, ("dtype has to be", "None", "real numbers")),
)

COUNTS = (
    Wrong("0", always(0), EITHER, (r"{name}", "0", "positive int|between [01]|at least 1")),
    Wrong("negative", always(-2), EITHER, (r"{name}", "-2", "positive int|between [01]|at least 1")),
    Wrong("a float", always(1.5), EITHER, (r"{name}", r"1\.5", "positive int|integer|int or")),
    Wrong("a string", always("3"), EITHER, (r"{name}", "'3'", "positive int|integer|int or")),
    Wrong("None", always(None), EITHER, (r"{name}", "None", "positive int|integer|int or")),
)

REALS = (
    Wrong("a string", always("1"), TYPE, (r"{name}|learning rate|epsilon", "'1'", "real number|finite|number")),
    Wrong(
        "a bool",
        always(True),
        EITHER,
        (r"{name}|learning rate|epsilon", "True", "real number|finite|number|not negative"),
    ),
    Wrong("complex", always(1j), TYPE, (r"{name}|learning rate|epsilon", "1j", "real number|finite|number")),
    Wrong("a list", always([1.0]), TYPE, (r"{name}|learning rate|epsilon", r"\[1\.0\]", "real number|finite|number")),
)
