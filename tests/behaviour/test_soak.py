"""The parts of `make soak` are there: every command names a file, and every harness is in a part."""

import json
from pathlib import Path

import parts
import pytest

HERE = Path(parts.__file__).parent
LIBRARIES = {"judge", "operations", "writers", "tracer", "parts"}  # which the harnesses import
# Which ask for a folder of others' sources; see CONTRIBUTING.
ASKING = {"backtrader_suite", "compiled_strategies", "public_strategies"}


def scripts():
    words = (Path(word) for part in parts.PARTS for command in part.commands for word in command)
    return {path.stem for path in words if path.suffix == ".py" and path.parent == HERE}


def test_every_harness_is_in_a_part_and_every_part_has_its_files():
    assert scripts() == {path.stem for path in HERE.glob("*.py")} - LIBRARIES - ASKING


def test_a_part_is_listed_by_its_name(capsys):
    assert parts.main([]) == 0
    listed = capsys.readouterr().out
    assert parts.main(["--json"]) == 0
    names = json.loads(capsys.readouterr().out)

    assert [line.split()[2] for line in listed.splitlines()] == [f"PART={name}" for name in names]


def test_a_part_that_is_none_is_refused(capsys):
    assert parts.main(["killls"]) == 2
    assert "there is no part killls" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 3])
def test_a_part_is_told_as_passed_or_by_the_command_that_failed(code):
    part = parts.Part("one", "", ((parts.PYTHON, "-c", f"raise SystemExit({code})"),))

    failed, told = parts.run(part)

    assert failed is bool(code)
    assert told.startswith("FAILED: " if code else "passed")
