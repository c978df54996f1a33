"""How many kinds of wrong call there are: a kind is a function, an argument and what is wrong with it."""

from __future__ import annotations

from trust.sweep.targets import TARGETS

from . import test_commands, test_crossed, test_functions, test_layers, test_modules, test_training, test_values


def written() -> set[str]:
    """Those written out one by one."""
    rows = (
        *test_values.ROWS, *test_functions.ROWS, *test_modules.MODULES, *test_modules.TENSORS, *test_layers.LAYERS,
        *test_training.TRAINING, *test_commands.ARGV,
    )  # fmt: skip
    commands = {" ".join(words) for words, _ in test_commands.COMMANDS}
    files = {f"a {name} file" for name, *_ in test_commands.FILES} | {f"{d} weights" for d in test_training.DAMAGES}
    return (
        {row.id for row in rows}
        | commands
        | files
        | {f"{name}={value}" for name, value, _ in test_commands.ENVIRONMENT}
    )


def crossed() -> set[tuple[str, str]]:
    """Arguments and what is wrong with them, whatever the function."""
    return {(name, wrong.what) for target in TARGETS for name, wrong in test_crossed.kinds(target)}


def kinds() -> set[object]:
    """All of them: those written out, and each crossing of a function with what can be wrong with its arguments."""
    tried = {(target.name, name, wrong.what) for target in TARGETS for name, wrong in test_crossed.kinds(target)}
    return {*written(), *tried}
