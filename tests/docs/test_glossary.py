"""The glossary has the words that commands print, in order."""

import re
from typing import get_args

import pytest
from places import ROOT

from backtest.engine.alignment import ALIGNMENTS
from backtest.market.series import KINDS, PRICES
from backtest.store.audit.findings import Level

TEXT = (ROOT / "docs" / "glossary.md").read_text("utf-8")
ENTRIES = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)


def test_entries_are_in_order_and_none_is_there_twice():
    assert sorted(set(ENTRIES), key=str.lower) == ENTRIES


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_says_what_it_is_in_a_few_sentences(entry):
    said = TEXT.partition(f"### {entry}\n")[2].partition("\n###")[0].strip()

    assert said.endswith(".")
    assert 12 < len(said) < 600


@pytest.mark.parametrize("word", [*PRICES, *KINDS, *ALIGNMENTS, *get_args(Level)])
def test_a_word_of_ib_of_a_rule_or_of_a_finding_is_explained(word):
    assert f"`{word}`" in TEXT or word in ENTRIES


def test_no_line_is_wider_than_a_page():
    assert [line for line in TEXT.splitlines() if len(line) > 130] == []
