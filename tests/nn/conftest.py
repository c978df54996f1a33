"""Fixtures that the tests of this folder share."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop


@pytest.fixture(autouse=True)
def seeded():
    fastdrop.manual_seed(1234)


@pytest.fixture
def np_rng():
    return np.random.default_rng(7)
