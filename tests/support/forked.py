"""
Run scripts and modules, each in a child of this process, which has imported what they share: that takes longest.

Run:  python tests/support/forked.py MODULE...

Each line of stdin is a command as JSON: its words, the folder it is run in, and the file that all its output goes to.
Its exit code is a line of stdout.
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path


def main(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    if operations := sys.modules.get("operations"):
        with tempfile.TemporaryDirectory(dir=operations.quick_folder()) as folder:
            operations.warm(Path(folder))
    for line in sys.stdin:
        words, folder, output = json.loads(line)
        child = os.fork()
        if not child:
            _become(words, folder, output)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(words: list[str], folder: str, output: str) -> None:
    """Be a process that was started for this command, as `python WORDS` starts one."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        os.chdir(folder)
        if words[0] == "-m":
            sys.path[0], sys.argv = folder, words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the exit code says so and the trace is shown
        traceback.print_exc()
    finally:
        if "writers" in sys.modules:
            sys.modules["writers"].clear()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing more: what is to be done at exit is the parent's


if __name__ == "__main__":
    main(sys.argv[1:])
