"""A user's own figures stand on a page like ours."""

import re
from xml.etree import ElementTree

import pytest
from handmade import fill, result_of
from matplotlib.figure import Figure as Canvas

from backtest.errors import UsageError
from backtest.report.figures import FIGURES, Figure, shown_figures, svg
from backtest.report.run_page import write_report
from backtest.validity.validation import validate

RUN = result_of([110.0, 99.0, 120.0, 132.0], [fill(0, 1, 10.0)])


def draw_cash(result, width):
    canvas = Canvas(figsize=(width, 2), layout="constrained")
    axes = canvas.subplots()
    axes.plot(result.record["cash"].to_numpy(), marker="o")
    axes.set_title("Money & <cash>")
    return canvas


CASH = Figure("cash", "Cash <by bar>", lambda result: f"Cash at the end of {len(result.record)} bars.", draw_cash)


def own(draw=draw_cash, **words):
    return Figure(**{"name": "mine", "title": "Mine", "alt": lambda result: "Mine.", "draw": draw} | words)


@pytest.fixture(scope="module")
def validity():
    return validate(RUN, samples=10)


@pytest.mark.slow
def test_a_figure_of_ones_own_follows_ours_on_the_page_in_both_widths(tmp_path):
    widths = []

    def draw(result, width):
        widths.append(width)
        return draw_cash(result, width)

    text = RUN.report(tmp_path, figures=[own(draw, title="Cash <by bar>")]).read_text("utf-8")

    ours = [figure.title for figure in FIGURES.values() if figure.needs(RUN)]
    titles = re.findall(r"<h2>([^<]*)</h2>\n<figure", text)
    assert titles == [*ours, "Cash &lt;by bar&gt;"]
    assert widths == [9.6, 4.2]
    assert 'aria-label="Mine."' in text
    shown = re.sub(r"<script.*?</script>|<a href=.*?</a>|http://www.w3.org", "", text, flags=re.DOTALL)
    assert "http" not in shown  # nothing is asked of the network


@pytest.mark.slow
def test_the_ids_of_a_page_are_distinct_and_the_page_is_the_same_each_time(tmp_path, validity):
    def page(folder):
        figures = [CASH, own(title="Again")]
        return write_report(RUN, tmp_path / folder, validity, figures).read_text("utf-8")

    first = page("first")

    ids = re.findall(r'<(?:path|clipPath|marker)[^>]* id="([^"]+)"', first)
    assert len(ids) == len(set(ids)) > 0
    assert page("second") == first


def test_what_it_draws_is_an_svg_element():
    (figure,) = [one for one in shown_figures(RUN, [CASH]) if one.name == "cash"]

    root = ElementTree.fromstring(svg(figure.draw(RUN)))

    assert root.tag.endswith("svg")
    assert "Money & <cash>" in "".join(root.itertext())


def test_one_that_the_run_has_not_enough_for_is_left_out():
    assert "mine" not in [one.name for one in shown_figures(RUN, [own(needs=lambda result: len(result.record) > 4)])]


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            [own(lambda result, width: 1 / 0)],
            r"draw of the figure mine failed: ZeroDivisionError.*draw\(result, width\)",
        ),
        ([own(lambda result: None)], "draw of the figure mine failed: TypeError"),
        ([own(lambda result, width: None)], "what draw of the figure mine returned is None; return its Figure"),
        ([own(alt=lambda result: None)], "what alt of the figure mine returned is None"),
        ([own(needs=lambda: True)], r"needs of the figure mine failed: TypeError.*needs\(result\)"),
        ([own(draw=None)], "draw of the figure mine is None"),
        ([own(name="equity")], "a figure cannot be named 'equity'"),
        ([own(), own()], "a figure cannot be named 'mine'"),
        ([own(name='x" onload="y')], "a figure cannot be named"),
        ([own(title="")], "the title of a figure is empty"),
        (["equity"], r"a figure is 'equity'; write a list of rows, such as Figure\("),
        (CASH, "figures is an object of type Figure"),
    ],
)
def test_one_that_cannot_be_drawn_is_refused_with_its_name_and_nothing_is_written(tmp_path, validity, figures, said):
    with pytest.raises(UsageError, match=said):
        write_report(RUN, tmp_path / "page", validity, figures)

    assert not (tmp_path / "page").exists()
