"""The one list of who competes."""

from __future__ import annotations

import importlib.util

import pytest

import fastdrop as fd
from fastdrop.bench.cases import FAMILIES, Case
from fastdrop.bench.contenders import CONTENDERS, COPIES, entries, entry


def test_every_family_has_us_and_its_limits() -> None:
    for family, about in FAMILIES.items():
        limits = {"the copy": COPIES, "the dense product": ("dense",)}[about.limit]
        found = {found.contender.name: found.contender.role for found in entries(Case(family, about.full))}
        assert found["fastdrop-torch" if family.startswith("torch-") else "fastdrop"] == "ours"
        assert {name for name, role in found.items() if role == "limit"} == set(limits)
    assert all(set(contender.prepare) <= set(FAMILIES) for contender in CONTENDERS.values())


def test_the_limits_come_first() -> None:
    roles = [found.contender.role for found in entries(Case("forward", 64))]
    assert roles == sorted(roles, key=["limit", "ours", "peer"].index)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    reasons = {found.contender.name: found.skipped for found in entries(Case("forward", 64))}
    assert reasons["torch"] == "torch is not installed"
    assert reasons["fastdrop"] is None


def test_bfloat16_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ml_dtypes" else find(name))
    assert entry("fastdrop", Case("forward", 64, "bfloat16")).skipped == "ml_dtypes is not installed"
    assert entry("fastdrop", Case("forward", 64, "float16")).skipped is None


def test_specs() -> None:
    case = Case("forward", 64, threads=3, isa="portable")
    found = entry("fastdrop", case)
    assert (found.case.isa, found.case.threads) == ("portable", 3)
    found = entry("fastdrop@avx2:2", case)
    assert (found.case.isa, found.case.threads) == ("avx2", 2)
    assert entry("memcpy:2", case).label == "memcpy, 2 threads"
    assert entry("numpy-good:2", case).label == "NumPy, good"
    assert entry("fastdrop", Case("forward", 64)).label == f"fastdrop {fd.isa()}"
