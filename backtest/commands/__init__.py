"""The commands of `backtest`, and how what they say looks: the only files that print."""
