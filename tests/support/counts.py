"""The metrics that are counts, and so are 0 where nothing happened."""

COUNTED = {"open_trades", "rejected_orders", "trades", "winning_streak", "losing_streak", "costs",
           "max_drawdown_sessions", "max_drawdown_days"}  # fmt: skip  # of nothing there are none
