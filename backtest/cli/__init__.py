"""The commands of `backtest`: the only folder that prints."""
