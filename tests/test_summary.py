"""What `make test` says in the end of what it ran."""

import subprocess
import sys
from pathlib import Path

SUMMARY = Path(__file__).parents[1] / ".ci" / "summary"
REPORT = """<testsuites><testsuite time="12.6">
<testcase classname="tests.test_store" name="a" time="1.25"/>
<testcase classname="tests.test_store.TestOne" name="b" time="3.5"/>
<testcase classname="tests.test_page" name="c" time="7.0"/>
<testcase classname="tests.test_page" name="d" time="0.0"><skipped message="no browser"/></testcase>
</testsuite></testsuites>"""


def test_a_row_a_file_the_slowest_first_with_what_was_skipped_and_why(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    words = [str(SUMMARY), "0", f"{sys.prefix}={tmp_path / 'report.xml'}"]

    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout

    rows = [line.split() for line in said.splitlines()]
    version = ".".join(map(str, sys.version_info[:3]))
    (head,) = (row for row in rows if row[:2] == ["Python", f"{version},"])
    assert head[2] in ("ib_insync", "ib_async")
    assert head[-2:] == ["4", "13"]
    assert [row for row in rows if row[:1] in (["test_page.py"], ["test_store.py"], ["skipped:"])] == [
        ["test_page.py", "2", "7"],
        ["test_store.py", "2", "5"],
        ["skipped:", "no", "browser", "1"],
    ]
