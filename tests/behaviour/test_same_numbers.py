"""A run has one set of numbers: page, metrics.json, --json, terminal and notebook show the same."""

import contextlib
import html
import io
import json
import re
from pathlib import Path

import pytest
from places import ROOT

from backtest.api import RunResult
from backtest.cli.app import main
from backtest.metrics.table import METRICS

ASKED = ("run", str(ROOT / "strategies" / "sma_cross.py"), "IBM/1day", "--store", str(ROOT / "data" / "sample"))


def called(*words):
    """Call the command line in this process and return its stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        main(list(words))
    return out.getvalue()


# A run of thirteen years, and one that is too short for some of its numbers and traded too little for others.
@pytest.fixture(scope="module", params=[(), ("--until", "2000-06-30")], ids=["long", "short"])
def faces(request, tmp_path_factory):
    """Return what each face of a run shows: numbers of the machines' by name, texts of the people's by label."""
    folder = str(tmp_path_factory.mktemp("run"))
    ran = json.loads(called(*ASKED, *request.param, "--out", folder, "--json"))
    reported = json.loads(called("report", folder, "--json"))
    page = Path(folder, "index.html").read_text(encoding="utf-8")
    return {
        "run --json": ran,
        "report --json": reported,
        "metrics.json": json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8")),
        "page": of_page(page),
        "terminal": of_terminal(called("runs", "show", folder)),
        "notebook": of_html(RunResult.load(folder)._repr_html_()),
    }


def of_page(text):
    rows = re.findall(r'<tr data-metric="(\w+)"><td>[^<]*</td><td[^>]*>([^<]*)</td>', text)
    return {METRICS[name].label: plain(shown) for name, shown in rows}


def of_terminal(text):
    labels = "|".join(re.escape(metric.label) for metric in METRICS.values())
    return dict(re.findall(rf"^({labels})  +(\S.*)$", text, re.MULTILINE))


def of_html(text):
    return {plain(label): plain(shown) for label, shown in re.findall(r"<td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>", text)}


def plain(text):
    return html.unescape(text).replace("−", "-").replace("\N{NO-BREAK SPACE}", " ")


def text_of(document, name):
    """Return how people should see a number that machines were given."""
    metric, value = METRICS[name], document["stats"][name]
    if value is None:
        return f"– ({document['undefined'][name]})"
    return metric.text(value) + (f" {document['currency']}" if metric.unit == "money" else "")


@pytest.mark.slow
@pytest.mark.parametrize("face", ["report --json", "metrics.json"])
def test_machines_are_given_the_same_numbers_reasons_and_definitions(faces, face):
    for part in ("stats", "undefined", "definitions", "basis", "currency"):
        assert faces[face][part] == faces["run --json"][part]
    assert faces[face]["stats"].keys() == METRICS.keys()


@pytest.mark.slow
def test_the_page_shows_every_number_that_machines_are_given(faces):
    assert faces["page"] == {metric.label: text_of(faces["run --json"], metric.name) for metric in METRICS.values()}


@pytest.mark.slow
@pytest.mark.parametrize("face", ["terminal", "notebook"])
def test_people_are_shown_the_same_headline_numbers_everywhere(faces, face):
    headline = {metric.label for metric in METRICS.values() if metric.headline}

    assert headline <= faces[face].keys()
    assert faces[face].items() <= faces["page"].items()


@pytest.mark.slow
def test_what_machines_lack_has_a_reason_and_nothing_else_has(faces):
    for document in (faces["run --json"], faces["metrics.json"]):
        assert {name for name, value in document["stats"].items() if value is None} == document["undefined"].keys()
