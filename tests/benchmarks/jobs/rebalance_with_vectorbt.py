"""Equal weights, rebalanced monthly, with vectorbt after compiling: rebalance_with_vectorbt.py CLOSES CASH REPEATS"""

import json
import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt

closes, cash, repeats = pd.read_parquet(sys.argv[1]).set_index("time"), float(sys.argv[2]), int(sys.argv[3])
closes.index = closes.index.tz_localize(None)
weights = np.full(closes.shape, np.nan)
weights[~closes.index.to_period("M").duplicated()] = 0.95 / closes.shape[1]
seconds = []
for _ in range(repeats + 1):  # the first compiles
    started = time.process_time()
    made = vbt.Portfolio.from_orders(
        closes, weights, size_type="targetpercent", group_by=True, cash_sharing=True, call_seq="auto", init_cash=cash,
        freq="1D", size_granularity=1,
    )  # fmt: skip
    final = float(made.value().iloc[-1])
    seconds.append(time.process_time() - started)
print(json.dumps({"seconds": min(seconds[1:]), "final": final}))
