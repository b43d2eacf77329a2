"""
All that the commands say, as one text to read: their help, what each prints on the demo's bars, and its errors.

Run:  python tests/support/outputs.py > build/outputs.txt        (ends with 1 if it has a word of `prose.WORST`)
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer
from pages import Desk, desk, workplace
from prose import worst

from backtest.cli.app import app

COMMANDS = [name for name, one in typer.main.get_command(app).commands.items() if not one.hidden]  # type: ignore[attr-defined]
FILES = {
    "leaky.py": """\
import backtrader as bt
class Leaky(bt.Strategy):
    def next(self):
        self.order_target_percent(target=0.9 if self.data.close[1] > self.data.close[0] else 0)
""",
    "raising.py": """\
import backtrader as bt
class Raising(bt.Strategy):
    params = dict(fast=10)
    def next(self):
        raise ValueError("no luck")
""",
    "broken.py": "def (:\n",
    "two.py": "import backtrader as bt\nclass One(bt.Strategy): pass\nclass Two(bt.Strategy): pass\n",
    "none.py": "x = 1\n",
    "plain.csv": "Date,Open,High,Low,Close,Volume\n2024-03-04,1,2,1,2,10\n2024-03-05,2,2,1,1,10\n",
    "bad.csv": "Date,Open,High,Low,Close,Volume\n2024-03-04,1,2,1,3,10\n",
    "notime.csv": "Open,High,Low,Close\n1,2,1,2\n",
    "ambiguous.csv": "Date,Open,High,Low,Close\n03/04/2024,1,2,1,2\n05/04/2024,1,2,1,2\n",
    "minutes.csv": "Date,Open,High,Low,Close\n2024-03-04 09:30,1,2,1,2\n2024-03-04 09:31,2,2,1,1\n",
    "empty.csv": "",
    "splits.csv": "date,ratio\n2024-03-04,x\n",
    "series.txt": "AAPL/1day\nAAPL\n",
}
# What a user does in a first week, and does wrong; each in the folder that those before it leave.
SAID = """
backtest doctor
backtest ls
backtest ls IBM/1day
backtest verify
backtest download AAPL/1day --since 2012-01-03 --until 2013-03-01 --source ib://127.0.0.1:7497 --store other
backtest download AAPL/1day --since 2012-01-03 --until 2013-03-01 --source ib://127.0.0.1:7497 --store other
backtest download QQQ/1day --since 2012-01-03 --until 2012-03-01 --source ib://127.0.0.1:7497 --store other
backtest download AAPL/1day --source ib://127.0.0.1:1 --since 2012-01-03 --until 2012-03-01
backtest download AAPL/1day --since 2012-13-03 --source ib://127.0.0.1:7497
backtest download AAPL/1day --since 2013-01-03 --until 2012-03-01 --source ib://127.0.0.1:7497
backtest download AAPL --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download AAPL/1day --source tws:7497
backtest download AAPL/2days --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download AAPL/1day/TRADE --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download AAPL-STOCK/1day --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download ES-FUT/1day --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download AAPL/1day/FEE_RATES --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download AAPL/1day/FEE-RATE --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download @series.txt --since 2012-01-03 --source ib://127.0.0.1:7497
backtest download @nofile.txt --since 2012-01-03 --source ib://127.0.0.1:7497
backtest import plain.csv ACME/1day
backtest import plain.csv ACME/1day
backtest import plain.csv ACME
backtest import bad.csv BAD/1day
backtest import notime.csv ACME/1day
backtest import ambiguous.csv AMB/1day
backtest import minutes.csv MIN/1min
backtest import empty.csv ACME/1day
backtest import nofile.csv ACME/1day
backtest import plain.csv ACME/1day --columns time,open,high,low,last
backtest export IBM/1day ibm.csv --since 2012-01-03
backtest export IBM/1day ibm.xyz
backtest export QQQ/1day qqq.csv
backtest pin IBM/1day --lock pins.json
backtest run sma_cross IBM/1day --set fast=20 --set slow=50 --out runs/a
backtest run sma_cross IBM/1day --set fast=20 --set slow=50 --out runs/a
backtest run sma_cross IBM/1day --set fast=10 --set slow=30 --cost-cases 0,1,2 --out runs/b --pin pins.json
backtest run buy_and_hold AAPL/1day --out runs/hold --since 2010-01-04
backtest run sma_cross AAPL/1day IBM/1day --each
backtest run sma_cross IBM/1day --set fsat=20
backtest run sma_cross IBM/1day --set fast=x
backtest run sma_cross IBM/1day --set fast
backtest run sma_crss IBM/1day
backtest run nofile.py IBM/1day
backtest run broken.py IBM/1day
backtest run raising.py IBM/1day
backtest run two.py IBM/1day
backtest run none.py IBM/1day
backtest run leaky.py IBM/1day
backtest run sma_cross QQQ/1day
backtest run sma_cross IBM/1hour
backtest run sma_cross IBM
backtest run sma_cross IBM/1day --store nowhere
backtest run sma_cross IBM/1day --since 2030-01-02
backtest run sma_cross IBM/1day --since yesterday
backtest run sma_cross IBM/1day --costs ib-fix
backtest run sma_cross IBM/1day --costs bp:x
backtest run sma_cross IBM/1day --slippage 5
backtest run sma_cross IBM/1day --slippage abc
backtest run sma_cross IBM/1day --cash -5
backtest run sma_cross IBM/1day --cash lots
backtest run sma_cross IBM/1day --fills sometime
backtest run sma_cross IBM/1day --size percent:x
backtest run sma_cross IBM/1day --borrow stored
backtest run sma_cross IBM/1day --borrow GME=0.3
backtest run sma_cross IBM/1day --dividends maybe
backtest run sma_cross IBM/1day --splits nofile.csv
backtest run sma_cross IBM/1day --splits splits.csv
backtest run sma_cross IBM/1day --splits IBM/1day=nofile.csv
backtest run sma_cross IBM/1day --margin many
backtest run sma_cross IBM/1day --currency DOLLAR
backtest run sma_cross IBM/1day --interest bank
backtest run sma_cross IBM/1day --benchmark QQQ/1day
backtest run sma_cross IBM/1day --align maybe
backtest run sma_cross IBM/1day --warm-up x
backtest run sma_cross IBM/1day --pin nofile.json
backtest run sma_cross AAPL/1day --pin pins.json
backtest run sma_cross IBM/1day --slipage 5bp
backtest run
backtest next sma_cross IBM/1day
backtest next buy_and_hold IBM/1day --json
backtest sweep sma_cross IBM/1day --grid fast=5,10 --grid slow=20,50 --out runs/sweep
backtest sweep sma_cross IBM/1day --grid fast=5,10 --grid slow=20,50 --out runs/sweep
backtest sweep sma_cross IBM/1day --grid fast=5:10:0 --out runs/sweep2
backtest sweep sma_cross IBM/1day --grid fsat=5,10 --out runs/sweep2
backtest sweep sma_cross IBM/1day --grid fast=5,10 --rank sharp --out runs/sweep2
backtest sweep sma_cross IBM/1day --grid fast=5,10 --where 'fast<<slow' --out runs/sweep2
backtest sweep sma_cross IBM/1day --out runs/sweep2
backtest sweep raising.py IBM/1day --grid fast=5,10 --out runs/sweep3
backtest runs ls
backtest runs show a
backtest runs tag a good
backtest runs note a "first try"
backtest runs show nosuch
backtest runs rm hold
backtest report a
backtest report nosuch
backtest compare a b
backtest compare a
backtest compare a nosuch
backtest validate a --bootstrap 200
backtest validate runs/sweep --bootstrap 200 --walk-forward 3y/2y
backtest validate runs/sweep --bootstrap 200 --cpcv 6,2
backtest validate a --lookahead --bootstrap 200
backtest validate a --walk-forward 3x/2y
backtest baseline write a
backtest baseline check
backtest baseline check nofile.json
backtest baseline accept nofile.json
backtest reproduce a
backtest reproduce nosuch
backtest publish ./published
backtest publish s3://
backtest prune
backtest new my_trend
backtest new my_trend
backtest new my_pairs --template nosuch
backtest emulator --store nowhere --port 7x
backtest show nosuch
backtest rum
backtest runs list
backtest --vershion
"""


def said(ready: Desk, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each command with what it says, in a folder that holds what the demo leaves."""
    reader = ready.reader(folder)
    workplace(folder, ready.store)
    with reader.at_work():
        for name, text in FILES.items():
            Path(name).write_text(text, "utf-8")
        for command in [f"backtest {name} --help" for name in COMMANDS] + SAID.strip().splitlines():
            text = reader.call(command)
            yield command, text + (f"[exit code {reader.code}]\n" if reader.code else "")


def main() -> int:
    """Print the text, and on stderr the words that it should not have; return 1 if there is one."""
    found = {}
    with tempfile.TemporaryDirectory() as place, desk(Path(place)) as ready:
        for command, text in said(ready, Path(place) / "desk"):
            sys.stdout.write(f"$ {command}\n{text}\n")
            found.update({command: words} if (words := worst(text)) else {})
    sys.stderr.writelines(f"{command}: {', '.join(words)}\n" for command, words in found.items())
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
