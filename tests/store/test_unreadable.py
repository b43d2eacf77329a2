"""What cannot be read is not taken for what is not there: it is said, with the folder, and ends with exit code 3."""

import json
import shutil

import pytest
from places import SUPPORT
from rights import HAVE_RIGHTS, unreadable

from backtest.errors import DamagedStore
from backtest.store.store import Store

pytestmark = HAVE_RIGHTS

AAPL = "AAPL-STK-SMART-USD/1day/TRADES/rth"


@pytest.fixture
def root(tmp_path):
    return shutil.copytree(SUPPORT / "kept" / "0.1.0" / "data" / "bars", tmp_path / "bars")


@pytest.mark.parametrize("hidden", ["AAPL-STK-SMART-USD", "AAPL-STK-SMART-USD/1day", AAPL, f"{AAPL}/manifest.json"])
@pytest.mark.parametrize("command", ["ls", "verify", "publish"])
def test_it_is_named_and_ends_with_3(root, tmp_path, call, command, hidden):
    words = [(tmp_path / "public").as_uri()] if command == "publish" else []

    with unreadable(root / hidden):
        code, out, err = call(command, *words, "--store", root, "--json")

    assert code == 3
    assert str(root / hidden) in out + err


def test_the_others_are_listed_all_the_same(root, call):
    with unreadable(root / AAPL):
        out = call("ls", "--store", root, "--json")[1]

    rows = {row["series"]: row for row in json.loads(out)["series"].values()}
    assert rows["MSFT/1day"]["bars"] > 0
    assert "cannot be read" in rows["AAPL/1day"]["problem"]


@pytest.mark.parametrize("hidden", [AAPL, f"{AAPL}/bars"])
def test_its_bars_are_no_missing_bars(root, hidden):
    with unreadable(root / hidden), pytest.raises(DamagedStore, match="cannot be read"):
        Store(root).read("AAPL/1day")
