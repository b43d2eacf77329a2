"""
Run scripts, each in a child of this process, which has imported what they share: that takes longer than most of them.

Each line of stdin is the words of a command and a file, as JSON; the script's output goes to the file, and its exit
code is a line of stdout.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

import operations
import writers


def main() -> None:
    with tempfile.TemporaryDirectory(dir=operations.quick_folder()) as folder:
        operations.warm(Path(folder))
        for line in sys.stdin:
            (script, *words), output = json.loads(line)
            child = os.fork()
            if not child:
                _become(script, words, output)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


def _become(script: str, words: list[str], output: str) -> None:
    """Be a process that was started for this script."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.argv = [script, *words]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the exit code says so and the trace is shown
        traceback.print_exc()
    finally:
        writers.clear()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing more: what is to be done at exit is the parent's


if __name__ == "__main__":
    main()
