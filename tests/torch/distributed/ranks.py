"""What torchrun starts on each rank: the checks of the modules named, one after the other, all ranks in step.

    python -m torch.distributed.run ... ranks.py FOLDER MODULE...

A check is a function ``check_*(out)``; what it puts into the dict `out` is saved for the test that started this. Each
rank writes FOLDER/RANK.json after every check, and ends with the first that fails: the others would wait for it.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

import torch
import torch.distributed as dist

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(folder: str, *modules: str) -> int:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    done: dict[str, object] = {}
    for module in map(load, modules):
        for name, check in list(vars(module).items()):  # the compiler adds to it
            if name.startswith("check_"):
                key, out = f"{module.__name__}.{name}", dict[str, object]()
                try:
                    torch.manual_seed(0)
                    check(out)
                    done[key] = {"out": out}
                except BaseException:
                    done[key] = {"error": traceback.format_exc()}
                Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(done))
                if "error" in done[key]:
                    os._exit(1)
                dist.barrier()
    # PyTorch's own threads abort a process that takes its group down, in one run of eight or so.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
