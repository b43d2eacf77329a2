import re
from html import unescape

import pytest
from handmade import fill, result_of
from unpacked import chart_in

from backtest.errors import UsageError

RUN = result_of([100.0, 96.0, 112.0], [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)])


@pytest.fixture(scope="module")
def view():
    return RUN.chart()


@pytest.mark.slow
def test_a_notebook_shows_the_chart_in_a_frame_of_its_own(view):
    shown = view._repr_html_()

    page = unescape(re.fullmatch(r'<iframe title=".*?" srcdoc="([^"]*)" style=".*?"></iframe>', shown)[1])
    about, columns = chart_in(page)
    assert about["name"] == "Trend"
    assert columns["equity"].tolist() == [100.0, 96.0, 112.0]


@pytest.mark.slow
def test_a_chart_is_saved_as_a_page(view, tmp_path):
    path = view.save(tmp_path / "new" / "chart.html")

    assert path.read_text(encoding="utf-8") == view.html
    assert view.html.startswith("<!doctype html>")
    assert repr(view) == "Chart of Trend on AAPL/1day; .save(FILE) writes it as a page"


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_said(view, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="no chart can be saved in"):
        view.save(tmp_path / "file" / "chart.html")
