"""The tables stay as wide as they are meant to be."""

from __future__ import annotations

from .count import crossed, kinds, written


def test_how_many_kinds_there_are() -> None:
    assert len(written()) >= 250  # each another call
    assert len(crossed()) >= 250  # an argument, and what is wrong with it
    assert len(kinds()) >= 3500  # the same, by function
