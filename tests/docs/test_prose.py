"""No text that a user reads has a word for which the field has a plainer one: `prose.py` lists both."""

import pytest
from prose import texts, worst


@pytest.mark.docs
def test_no_text_has_one_of_the_worst_words():
    found = list(texts())
    places = {place.partition(":")[0] for place, _ in found}

    assert [(place, words) for place, text in found if (words := worst(text))] == []
    assert {
        "backtest/cli/runs.py", "backtest/errors.py", "strategies/sma_cross.py", "README.md", "CHANGELOG.md",
        "docs/how-to/sweeps-on-a-cluster.md", ".github/CONTRIBUTING.md", "notebooks/02_research.ipynb",
        "backtest/report/templates/report.html",
    } <= places  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cause code: put back, it brings the old result", ["put back"]),
        ("A bar is told by its date.", ["told"]),
        ("Told by the text; mend it", ["Told", "mend"]),
        ("what Backtrader reckons anew", ["reckons", "anew"]),
        ("The variable spares the option", ["spares"]),
        ("252 sessions a year, risk-free", ["sessions a year"]),
        ("The words of a command, or the arguments of a call, are off.", ["are off"]),
        ("Kept runs of strategies that come along: a row a run", ["Kept runs", "come along", "row a run"]),
        ("A number is off; the first by the alphabet", ["is off", "by the alphabet"]),
        ("what came of it, put aside or put right, and all else", ["came of", "put aside", "put right", "all else"]),
    ],
)
def test_a_planted_word_is_found(text, words):
    assert worst(text) == words


@pytest.mark.parametrize("text", ["A.told = 0", "`told` is a name", "recommended", "while i_f < A.told:", "--told"])
def test_a_name_or_another_word_is_none(text):
    assert worst(text) == []
