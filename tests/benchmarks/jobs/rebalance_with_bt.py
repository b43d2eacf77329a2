"""Equal weights, rebalanced monthly, with bt: rebalance_with_bt.py CLOSES CASH REPEATS"""

import json
import sys
import time

import bt
import pandas as pd

closes, cash, repeats = pd.read_parquet(sys.argv[1]).set_index("time"), float(sys.argv[2]), int(sys.argv[3])
closes.index = closes.index.tz_localize(None)
weights = dict.fromkeys(closes.columns, 0.95 / len(closes.columns))
seconds = []
for _ in range(repeats):
    algos = [
        bt.algos.RunMonthly(run_on_first_date=True), bt.algos.SelectAll(), bt.algos.WeighSpecified(**weights),
        bt.algos.Rebalance(),
    ]  # fmt: skip
    started = time.process_time()
    test = bt.Backtest(bt.Strategy("all", algos), closes, initial_capital=cash, integer_positions=True)
    made = bt.run(test)
    seconds.append(time.process_time() - started)
print(json.dumps({"seconds": min(seconds), "final": cash * made.prices.iloc[-1, 0] / 100}))
