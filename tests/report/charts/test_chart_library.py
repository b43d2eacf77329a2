import hashlib

from backtest.report.charts.chart_library import checked, library


def test_the_script_is_one_that_npm_has():
    # Of lightweight-charts.standalone.production.js in lightweight-charts 5.1.0.
    digest = "756b0ba9f58930226d6b8b9d47ad310448ab85d799ea1f7c2c02304777c10b52"

    assert hashlib.sha256(library().script.encode()).hexdigest() == digest
    assert library().why_not == ""


def test_a_script_with_another_byte_is_refused_and_said(tmp_path):
    file = tmp_path / "library.js"
    file.write_text(library().script + " ", encoding="utf-8")

    found = checked(file)

    assert found.script == ""
    assert "is not one of the versions 5.1.0, 5.2.0, 5.2.1" in found.why_not


def test_a_script_that_is_not_there_is_said(tmp_path):
    assert "cannot be read (No such file or directory)" in checked(tmp_path / "none.js").why_not
