"""Write docs/trust.md from the records of docs/trust/: ``python -m trust.page``.

The words stand here, every number in a record. tests/trust/test_page.py holds the page to what the records say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastdrop._files import whole_file

from . import record

PAGE = record.ROOT / "docs" / "trust.md"

Figures = dict[str, Any]
Records = dict[str, dict[str, Any]]


def joined(words: Sequence[Any]) -> str:
    """Words as a list in a sentence."""
    some = list(map(str, words))
    return " and ".join([", ".join(some[:-1]), some[-1]] if len(some) > 1 else some)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def promises(r: dict[str, Figures]) -> Iterator[str]:
    """The table that a hurried reader wants."""
    s, d, f = r["statistics"], r["dieharder"], r["fuzz"]
    a, c, b = r["sanitizers"], r["concurrency"], r["bad_input"]
    rows = [
        (
            "The same bits everywhere: instruction sets, threads, layouts, shards, byte orders",
            "known answers and a slow reference, bit for bit, in `make test`; the C tests for 64-bit Arm and s390x",
            "no difference",
        ),
        (
            "Bits as good as random, and p exact",
            "`make stats`, `make dieharder`",
            f"{sum(each['caught'] for each in s['seeds'].values())} of {len(s['seeds']) * s['tests']:,} tests caught "
            f"anything; dieharder: {d['failed']} of {d['results']} failed",
        ),
        (
            "No byte read or written outside of what was given",
            "AddressSanitizer and UBSan over the C tests, the Python tests and a fuzzer; guard pages",
            f"{a['findings']} findings in {a['tests']['passed']:,} Python tests, {f['findings']} in "
            f"{f['executions']:,} fuzzed calls",
        ),
        (
            "Threads, forks and Ctrl-C at any moment",
            "ThreadSanitizer, free-threaded Python, `make concurrency`",
            f"no race; {c['shared generator']['calls given twice or never']} calls given twice in "
            f"{c['shared generator']['draws']:,} draws; Ctrl-C honoured within {c['Ctrl-C']['longest seconds']} s",
        ),
        (
            "A wrong call is a Python error that says what would be right, and changes nothing",
            "a table of wrong calls in `make test`; `make sweep`",
            f"{b['kinds of wrong call in the table']:,} kinds, {sum(b['calls by seed'].values()):,} generated calls: "
            f"{b['crashes']} crashes, {b['hangs']} hangs, {b['changed something']} changed anything",
        ),
        (
            "A file is data, never code",
            "[SECURITY.md](../SECURITY.md) and the tests that hold it",
            "no pickle, no code, no connection in any load",
        ),
    ]
    yield table(["what is promised", "what holds it", "what it found"], rows)


def bits(r: dict[str, Figures]) -> Iterator[str]:
    s, d = r["statistics"], r["dieharder"]
    caught = [name for name in s["broken_generators"] if name not in s["broken_generators_missed"]]
    planted = [name for name in caught if not name.startswith("Philox of")]
    yield """**Known answers.** Random123's published answers for Philox4x32-10 and the law's own vectors, from C and from Python, on every
instruction set; and a slow reference in NumPy (`fastdrop.reference`) that shares no code with the kernels, compared bit for bit, by
hypothesis over chains of slices, transposes, reshapes, broadcasts and uneven shards too. The C tests run for 64-bit Arm
(`make test-neon`) and for s390x, a big-endian machine (`make test-big-endian`), under emulators."""
    smallest = joined([f"{each['smallest_p']:.1e}" for each in s["seeds"].values()])
    yield f"""**Statistics** (`make stats`). A run is {s["tests"]:,} tests in {len(s["families"])} families: rates for p from 1e-6 to 1 - 1e-6, serial
correlations along and across rows, planes, calls, keys and spawned children, patterns of bytes and words, run lengths, shifted
starts, collisions across calls, the normals. One bound holds for all of them (Bonferroni): a run calls a perfect generator broken at
most once in {1 / s["alpha_of_a_run"]:,.0f}, so each test does with a probability of {s["false_positive_rate_of_a_test"]:.1e} at most. Each rate is that of {s["elements_for_each_p"]:,}
elements. Seeds {joined(list(s["seeds"]))} found nothing; their smallest p-values are {smallest}."""
    yield f"""The tests are tested. {len(planted)} generators with a planted fault (ignored key bits, a stuck counter, calls given twice, comparisons of
8 bits, one bit in a hundred copied ...) are all caught, and so is Philox cut down to {s["most_rounds_of_philox_caught"]} rounds or fewer; the law has 10. On NumPy's
PCG64DXSM, with which nothing is wrong, {s["calibration"]["runs"]} runs gave p-values as good as uniform."""
    yield (
        "![Sorted p-values: the library's lie in the band of a perfect generator, broken generators' fall far below the bound]"
        + ("(trust/statistics.png)")
    )
    yield f"""**dieharder** (`make dieharder`), all of its tests on the bits of p = .5: {d["passed"]} of {d["results"]} results are PASSED, {d["weak"]} WEAK (of a perfect
generator {d["weak_expected"]} are expected) and {d["failed"]} FAILED. What was WEAK was run again on other bits: {joined(d["run_again"])}.
All results, with what dieharder says of its own tests: [dieharder.txt](trust/dieharder.txt)."""


def memory(r: dict[str, Figures]) -> Iterator[str]:
    a, f = r["sanitizers"], r["fuzz"]
    yield f"""**Sanitizers.** The C tests run under AddressSanitizer and UBSan in `make test`; the Python tests in `make test-asan`, with the
extension built for it: {a["tests"]["passed"]:,} passed, {a["tests"].get("failed", 0)} failed, {a["findings"]} findings. Left out there: {joined([f"`{name}` ({why})" for name, why in a["left_out"].items()])}.
ThreadSanitizer watches threads that call the library, change its settings, fork and stop calls meanwhile (`make test-tsan`)."""
    yield f"""**Fuzzing** (`make fuzz`). libFuzzer makes calls of the whole C API: views of any shape, strides and start, laws, dtypes, layouts,
instruction sets, threads; each result is compared with a scalar model, and with what was not to be written. {f["executions"]:,} calls
({f["executions_under_sanitizers"]:,} of them under the sanitizers), {f["findings"]} findings; {f["edges_covered"]:,} of {f["edges"]:,} edges covered. Its {f["seeds"]:,} seeds are in the
repository and run in CI. Of {f["mutants"]} kernels broken on purpose, in one line each, the seeds notice {f["mutants_noticed"]} (`make fuzz-mutants`)."""
    yield """**Guard pages.** Inputs and outputs of every kernel end at a page that cannot be read, or begin behind one, from C and from Python.
**Overflow.** Shapes, strides and starts that leave 63 bits are refused, or right. **No memory.** Each allocation of a program over
the whole API fails in turn: a MemoryError every time, never a crash. **Warnings** are errors under gcc and clang, with `-Wconversion`."""


def concurrency(r: dict[str, Figures]) -> Iterator[str]:
    c = r["concurrency"]
    k, g, f = c["Ctrl-C"], c["shared generator"], c["fork"]
    yield f"""A generator may be shared: {g["threads"]} threads drew {g["draws"]:,} masks, and {g["calls given twice or never"]} calls were given twice or left out. {f["children"]} children forked
while other threads were in calls all found the same bits ({f["children that failed"]} failed); spawned ones do too. Ctrl-C ends a call of any kind soon:
{k["calls interrupted"]} calls of {k["kinds"]} kinds, which would have taken minutes, on {joined(k["isas"])}, one and two threads, ended {k["median seconds"]} s after the signal in the
median and {k["longest seconds"]} s at the most ({k["longest of"]}). Free-threaded builds of Python are supported: importing fastdrop leaves their GIL off."""


def wrong_calls(r: dict[str, Figures]) -> Iterator[str]:
    b = r["bad_input"]
    raised = list(b["exceptions"].items())[:6]
    yield f"""`make test` holds {b["kinds of wrong call in the table"]:,} kinds of wrong call (function, argument, what is wrong with it): each gives an exception of a listed type
whose message names the argument, the value and what would be right; outputs keep every byte, generators their state, files their content.
`make sweep` calls {b["functions and methods swept"]:,} functions and methods with values made to hurt: {sum(b["calls by seed"].values()):,} calls, of which {b["refused"]:,} were refused ({joined([f"{name} {n:,}" for name, n in raised])} ...)
and {b["right after all"]:,} were right after all, {b["of these, compared with portable C"]:,} of them compared with portable C. Crashes: {b["crashes"]}; hangs: {b["hangs"]}; something changed: {b["changed something"]};
exceptions of a wrong type: {b["exception of a wrong type"]}; messages that do not name the argument: {b["message that does not name the argument"]}."""


def compatibility(r: dict[str, Figures]) -> Iterator[str]:
    m, i, w = r["compatibility"], r["import_time"], r["wheel"]
    yield "Tests on the oldest and the newest NumPy of several Pythons (`make test-matrix`; here, and where a Python was at hand):"
    yield "\n".join(f"- {row}" for row in m["runs"])
    if m["not_here"]:
        yield f"Not at hand, so not run: {joined(m['not_here'])}."
    low, high = i["quartiles_ms"]
    yield f"""`import fastdrop` takes {i["median_ms"]} ms beyond NumPy (quartiles {low} and {high}; {i["pairs"]} pairs of processes, {i["clock"]} time; the bar is {i["limit_ms"]:g})."""
    yield f"""The wheel (`make wheel`, {w["files"]} files, {w["kilobytes"]} KB) holds modules, stubs, header and licence and nothing else, needs {joined(w["libraries"])}, exports
{joined(w["exported"])} and nothing else, and passes the law's tests where there is no compiler ({w["law_tests"]})."""


SECTIONS = (
    ("Bits", bits),
    ("Memory", memory),
    ("Threads, processes, signals", concurrency),
    ("Wrong calls", wrong_calls),
    ("Compatibility", compatibility),
)

INTRODUCTION = """# Why trust it

A random-number kernel that is subtly wrong, or a native extension that crashes, is worse than a slow one. So what fastdrop promises is
tested by programs that anyone can run again, and this page is written by one, `python -m trust.page`, from what they found."""

LIMITS = """## What is not promised

- Values are the same on every instruction set for masks, normals and what is done in one pass with them; sums (DropConnect, convolution)
  depend on the order that an instruction set adds in, and on nothing else.
- A call that is interrupted, or an input that another thread changes meanwhile, leaves its output written in part.
- The C API trusts its caller for pointers. fastdrop's random numbers are not for cryptography.
- Found something? [SECURITY.md](../SECURITY.md) says where to tell."""


def page(records: Records) -> str:
    """The whole page."""
    figures = {name: each["figures"] for name, each in records.items()}
    parts = [INTRODUCTION, *promises(figures)]
    for title, section in SECTIONS:
        parts += [f"## {title}", *section(figures)]
    parts += ["## The runs behind this page", runs(records), LIMITS]
    return "\n\n".join(parts) + "\n"


def runs(records: Records) -> str:
    """What to type to run each again, and when and on what it ran."""
    rows = []
    for name, each in sorted(records.items()):
        on = each["environment"]
        rows.append(
            [
                f"[{name}](trust/{name}.json)",
                f"`{each['command']}`",
                f"{each['seconds'] / 60:.0f} min" if each["seconds"] >= 60 else f"{each['seconds']:.0f} s",
                f"{each['date']}, {each['commit']}",
                f"{on['system']} {on['machine']}, {on['isa']}, {on['cores']} cores, Python {on['python']}, NumPy {on['numpy']}",
            ]
        )
    return table(["record", "again", "took", "at", "on"], rows)


def read(folder: Path = record.FOLDER) -> Records:
    """All records of a folder."""
    return {path.stem: record.read(path.stem, folder) for path in folder.glob("*.json")}


if __name__ == "__main__":
    with whole_file(PAGE) as part:
        part.write_text(page(read()), encoding="utf-8")
    print("written:", PAGE)
