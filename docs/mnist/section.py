"""Write a section of the README from a finished study, so that no number in it is typed by hand.

    fastdrop mnist --config docs/mnist/study.toml --out OUT          then  python docs/mnist/section.py mnist OUT
    fastdrop mnist --model dropconnect --full --out OUT              then  python docs/mnist/section.py dropconnect OUT

The text between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` is replaced, and so are the pictures beside this file.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from fastdrop import mnist
from fastdrop._files import whole_file
from fastdrop.mnist import report, runner, statistics
from fastdrop.mnist.regularizers import parse
from fastdrop.mnist.report.comparisons import compare, in_words, p_text
from fastdrop.mnist.report.sweeps import against_p, against_size
from fastdrop.mnist.report.tables import PAPER
from fastdrop.mnist.results import labels

HERE = Path(__file__).parent
README = HERE.parent.parent / "README.md"


def finished(folder, data):
    """The results of a study, which has to be finished."""
    held = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    dataset = mnist.load(data or held["data"], say=print)
    runs = [mnist.Run(**each) for each in held["runs"]]
    found = [runner.read_record(run, runner.run_folder(folder, run), dataset.digest) for run in runs]
    if None in found:
        raise SystemExit(f"{folder}: {found.count(None)} of {len(found)} runs are not finished")
    return mnist.Results(dataset, tuple(found), folder), held["command"]


def compared(results):
    """The arms of the table: those of the study's first grid."""
    grid = mnist.read_toml(HERE / "study.toml")[0]
    wanted = set(mnist.expand([grid], results.dataset))
    return results.where(lambda run: run in wanted)


def measure(records, of, digits):
    """A mean and its interval."""
    found = statistics.estimate([of(record) for record in records])
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


def mnist_section(whole, command):
    """The table of regularizers, the two sentences, and the pictures."""
    results = compared(whole)
    first = results.arms[0]
    differences = {each.second: each for each in compare(results) if each.first == first}
    yield "| | test accuracy % | test loss | gap | accuracy less *none*, points | p |"
    yield "|---|---:|---:|---:|---:|---:|"
    for arm in results.arms:
        records = results.of(arm)
        cells = [
            measure(records, lambda record: 100 * record.final["test_accuracy"], 2),
            measure(records, lambda record: record.final["test_loss"], 3),
            measure(records, lambda record: record.gap, 3),
        ]
        if arm in differences:
            found = differences[arm].accuracy.difference
            cells += [f"{100 * found.mean:+.2f} ± {100 * found.half:.2f}", p_text(differences[arm].accuracy_p)]
        else:
            cells += ["", ""]
        yield f"| {parse(arm.regularizer).label} | {' | '.join(cells)} |"
    run = results.records[0].run
    yield ""
    yield (
        f"The CNN (conv 32, pool, conv 64, pool, dense 128), {run.train_size:,} training images, {run.epochs} epochs, "
        f"{len(results.of(first))} seeds; mean ± half the 95 % interval over seeds; gap: validation loss less training "
        "loss; p: paired t-test, corrected for all tests of the table (Holm)."
    )
    yield ""
    yield report.summary(results)
    yield ""
    yield f"Made by `{command}`, and `python docs/mnist/section.py mnist OUT`."


def dropconnect_section(results, command):
    """The table beside the paper's."""
    yield "| | test error % | standard deviation | the paper's |"
    yield "|---|---:|---:|---:|"
    for arm in results.arms:
        found = statistics.estimate([100 * (1 - record.final["test_accuracy"]) for record in results.of(arm)])
        cells = (f"{found.mean:.2f} ± {found.half:.2f}", f"{found.std:.2f}", f"{PAPER[arm.regularizer]:.2f}")
        yield f"| {parse(arm.regularizer).label} | {' | '.join(cells)} |"
    run = results.records[0].run
    yield ""
    yield (
        f"784-800-800-10, ReLU, no augmentation: {run.train_size:,} training images (the paper: 60,000), {run.epochs} "
        f"epochs, {len(results.of(results.arms[0]))} seeds; mean ± half the 95 % interval over seeds. One learning "
        f"rate for all ({run.lr:g}, falling along a cosine), chosen among three on validation images of another seed."
    )
    yield ""
    named = labels(results.arms)
    others = [in_words(each, named[each.first], named[each.second]) for each in compare(results) if not each.baseline]
    yield " ".join([report.summary(results), *others])
    yield ""
    yield f"Made by `{command}`, and `python docs/mnist/section.py dropconnect OUT`."


def plain(command):
    """A command without what is of one machine alone."""
    return re.sub(r" --(data|out) ('[^']*'|\S+)", "", command) + " --out OUT"


def replace(name, text):
    """Put a text between two marks of the README."""
    old = README.read_text(encoding="utf-8")
    new, found = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)",
        lambda match: f"{match[1]}{text}\n{match[2]}",
        old,
        flags=re.DOTALL,
    )
    if found != 1:
        raise SystemExit(f"{README} has no place marked {name}")
    with whole_file(README) as part:
        part.write_text(new, encoding="utf-8")


def main():
    """Read a study, write its section and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("mnist", "dropconnect"))
    parser.add_argument("out", type=Path, help="the study's output folder")
    parser.add_argument("--data", help="where the images are, if not where the study found them")
    args = parser.parse_args()
    results, command = finished(args.out, args.data)
    sections = {"mnist": mnist_section, "dropconnect": dropconnect_section}
    replace(args.name, "\n".join(sections[args.name](results, plain(command))))
    if args.name == "mnist":
        figures, _ = report.draw(compared(results), print)
        figures |= {"gap.png": against_size(results), "p.png": against_p(results)}
        for file in ("curves-loss.png", "gap.png", "p.png", "predictions.png", "uncertain.png"):
            with whole_file(HERE / file) as part:
                figures[file].savefig(part, format="png")


if __name__ == "__main__":
    main()
