"""Write daily bars into a store, one day at a time; end by SIGKILL before the n-th call that changes the disk."""

import os
import signal
import sys
from datetime import UTC, date, datetime

from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.link")


def main(root: str, first: int, last: int, kill_at: int) -> None:
    store, left = Store(root), kill_at

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and "w" in str(args[1])):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(watch)
    for day in range(first, last + 1):
        row = (datetime(2024, 1, day, tzinfo=UTC), 10.0, 12.0, 9.0, 11.0, 1.0, None, None)
        store.write(Series.parse("AAPL/1day"), Span.of_dates(date(2024, 1, day), date(2024, 1, day)), table_of([row]))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
