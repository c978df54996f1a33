"""docs/trust.md is what the records say, and nothing else."""

from __future__ import annotations

import copy
import json
import re

import pytest

from trust import page, record


def test_the_page_is_made_of_the_records():
    """After a new record: ``make trust``."""
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.read())


def test_links_lead_somewhere():
    text = page.PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.PAGE.parent / target).exists(), target


def test_a_finding_shows():
    """A record that is not as promised cannot read as if it were."""
    records = copy.deepcopy(page.read())
    before = page.page(records)
    for name, path in (
        ("fuzz", ["findings"]),
        ("sanitizers", ["findings"]),
        ("dieharder", ["failed"]),
        ("bad_input", ["crashes"]),
        ("bad_input", ["changed something"]),
        ("concurrency", ["shared generator", "calls given twice or never"]),
        ("concurrency", ["fork", "children that failed"]),
    ):
        found = records[name]["figures"]
        for key in path[:-1]:
            found = found[key]
        assert found[path[-1]] == 0, f"{name} {path}"
        found[path[-1]] = 7
        after = page.page(records)
        found[path[-1]] = 0
        assert sum(a != b for a, b in zip(before.splitlines(), after.splitlines())) >= 1, f"{name} {path}"


def test_a_record_says_what_was_run(tmp_path):
    path = record.write("proof", "make proof", 12.34, {"figure": 1}, tmp_path / "new")
    assert path == tmp_path / "new" / "proof.json"
    found = record.read("proof", path.parent)
    assert found["figures"] == {"figure": 1} and found["command"] == "make proof" and found["seconds"] == 12.3
    assert {"date", "commit", "environment"} < found.keys()
    assert path.read_text(encoding="utf-8") == json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    with pytest.raises(FileNotFoundError):
        record.read("nothing", path.parent)
