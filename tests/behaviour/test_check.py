"""`make test` runs every part, whatever fails, and says at the end what it ran and all that failed."""

import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from places import ROOT
from rights import HAVE_MAKE

LOADER = SourceFileLoader("check", str(ROOT / ".ci" / "check"))
check = module_from_spec(spec_from_loader("check", LOADER))
sys.modules["check"] = check  # dataclasses look their module up
LOADER.exec_module(check)

REPORT = """<testsuites><testsuite tests="5" failures="1" errors="0" skipped="1" time="12.6">
<testcase classname="tests.store.test_store" name="a" time="1.25"/>
<testcase classname="tests.store.test_store.TestOne" name="b" time="3.5"/>
<testcase classname="tests.report.test_store" name="c" time="7.0"/>
<testcase classname="tests.report.test_store" name="d" time="0.0"><skipped message="no browser"/></testcase>
<testcase classname="tests.report.test_store" name="e" time="0.5"><failure message="2 is not 3&#10;more"/></testcase>
</testsuite></testsuites>"""


def ended(name, code, *, said="", report=None):
    return check.Part(name, [sys.executable], report, code, said)


def written(folder):
    (folder / "report.xml").write_text(REPORT)
    return folder / "report.xml"


def test_a_row_a_file_the_slowest_first_with_what_was_skipped_and_why(tmp_path):
    lines = check.summary([ended("lint", 0), ended("tests", 1, report=written(tmp_path))], 90.0)

    rows = [line.split() for line in lines]
    version = ".".join(map(str, sys.version_info[:3]))
    (head,) = (row for row in rows if row[:2] == ["Python", f"{version},"])
    assert ["lint", "ok"] in rows
    assert head[2] in ("ib_insync", "ib_async")
    assert head[-2:] == ["5", "13"]
    assert [row for row in rows if row[:1] in (["report/test_store.py"], ["store/test_store.py"], ["skipped:"])] == [
        ["report/test_store.py", "3", "8"],
        ["store/test_store.py", "2", "5"],
        ["skipped:", "no", "browser", "1"],
    ]


def test_all_that_failed_is_told_at_the_end(tmp_path):
    parts = [
        ended("mypy", 1, said="store.py:3: error\n"),
        ended("codespell", 0),
        ended("tests", 1, report=written(tmp_path)),
    ]

    assert check.failures(parts) == [
        "", "FAILED: mypy (exit code 1)", "store.py:3: error",
        "", "FAILED: tests (exit code 1)", "  tests.report.test_store::e: 2 is not 3",
        "", "4 passed, 2 failed, 1 skipped",
    ]  # fmt: skip


def test_a_part_that_ends_without_a_report_is_told_by_what_it_said(tmp_path):
    part = ended("tests with ib_async", 4, said="usage: pytest ...", report=tmp_path / "none.xml")

    assert check.failures([part])[1:3] == ["FAILED: tests with ib_async (exit code 4)", "usage: pytest ..."]


def test_a_part_that_fails_keeps_no_other_from_running():
    parts = [
        check.Part(str(code), [sys.executable, "-c", f"print({code}); raise SystemExit({code})"]) for code in (3, 0)
    ]

    check.run(parts[0], parts[1:])

    assert [(part.code, part.said) for part in parts] == [(3, ""), (0, "0\n")]


def test_the_tests_of_the_inner_loop_need_nothing_but_python():
    _, lint = check.parts("quick", "main", "second")
    tests, others = check.parts("test", "main", "second")

    alike = [part.name for part in lint]
    assert [part.name for part in others] == [*alike, "mypy of win32", "mypy of darwin", "tests with ib_async"]
    assert [part.command[0] for part in (tests, others[-1])] == [
        f"{folder}/{check.PROGRAMS}/python" for folder in ("main", "second")
    ]


@HAVE_MAKE
@pytest.mark.parametrize(("system", "folder"), [("Windows_NT", "Scripts"), ("", "bin")])
def test_an_environment_has_its_programs_where_its_system_has_them(system, folder):
    command = ["make", "--dry-run", "--always-make", "quick", f"OS={system}", "VENV=made", f"PYTHON={sys.executable}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"made/(\w+)/python", said)) == {folder}
    assert "/dev/" not in said, "Windows has none"


def test_a_program_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "PROGRAMS", "Scripts")
    there = tmp_path / "Scripts" / ("ruff.exe" if os.name == "nt" else "ruff")
    there.parent.mkdir()
    there.touch(0o755)

    assert [Path(check.program(str(tmp_path), name)) for name in ("ruff", "mypy")] == [there, there.with_name("mypy")]
