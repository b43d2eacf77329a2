"""The page of public strategies counts its own rows, and they are enough; `public_strategies.py` in soak makes it."""

import re

from places import ROOT

PAGE = (ROOT / "docs" / "public-strategies.md").read_text("utf-8")
ROWS = [row.strip("| ").split(" | ") for row in PAGE.split("## The strategies")[1].splitlines()[4:] if row]


def test_at_least_two_hundred_strategies_that_trade_are_equal_and_none_differs():
    results = [(int(row[4]), row[6]) for row in ROWS]

    assert len([orders for orders, result in results if orders and result == "equal"]) >= 200
    assert [result for _, result in results if not result.startswith(("equal", "fails under both: "))] == []


def test_the_sentence_above_counts_the_rows():
    equal = [row for row in ROWS if row[6].startswith("equal")]
    trading = [row for row in equal if row[4] != "0"]
    orders, fills = (sum(int(row[n]) for row in equal) for n in (4, 5))

    assert f"{len(ROWS)} strategies: {len(equal)} are equal" in PAGE
    assert f"{len(trading)} of these submit orders ({orders:,} orders, {fills:,} fills)" in PAGE
    assert f"{len({row[3] for row in ROWS})} files of {len({row[0] for row in ROWS})} repositories" in PAGE


def test_each_row_names_a_repository_and_the_hash_of_the_file():
    assert [row for row in ROWS if not re.fullmatch(r"[\w.-]+/[\w.-]+", row[0])] == []
    assert [row for row in ROWS if not re.fullmatch(r"[0-9a-f]{64}", row[3])] == []
