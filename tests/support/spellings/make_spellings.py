"""
Make what version 0.1.0 kept of series whose names need escapes: a store, pins and a run.

Run under 0.1.0:  python tests/support/spellings/make_spellings.py    (writes store, data.lock and run)

It is kept as it was written then; `test_spellings.py` reads it. So never make it again with a later version.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backtest import run
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store import pins
from backtest.store.store import Store

HERE = Path(__file__).parent
AT = datetime(2024, 3, 1, tzinfo=UTC)
SERIES = {
    "BRK B/1day": ContractDetails(72063691, "BRK B", "BRK B", "BERKSHIRE HATHAWAY INC-CL B", "NYSE", "SMART,NYSE"),
    "%62rk.b/1day": None,
    "ES-FUT-CME-USD-202406/1day": ContractDetails(551601561, "ESM4", "ES", multiplier="50", last_trade_date="20240621"),
    "SPX-OPT-CBOE-USD-20240621-12.5-C/8hours": None,
}


def main() -> None:
    """Write all of it."""
    store = Store(HERE / "store")
    for number, (text, contract) in enumerate(SERIES.items(), 1):
        series = Series.parse(text)
        start = datetime(2024, 1, 2, 0 if series.size.daily else 15, tzinfo=UTC)
        bars = [(start + timedelta(days=day), 10.0, 12.0, 9.0, 10.0 + number / 10, 100.0, None, 7) for day in range(4)]
        store.write(series, Span.of_dates(date(2024, 1, 2), date(2024, 1, 5)), table_of(bars), contract=contract, at=AT)
    for lock in (HERE / "store").rglob(".lock"):
        lock.unlink()
    pins.add(store, HERE / "data.lock", [series for series in store.series() if series.size.daily])
    result = run("buy_and_hold", ["BRK B/1day", "%62rk.b/1day"], store=store, benchmark="BRK B/1day")
    result.save(HERE / "run")
    print(result.run, result.spec.key)


if __name__ == "__main__":
    main()
