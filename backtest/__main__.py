"""`python -m backtest` runs the command `backtest`."""

from backtest.cli.app import main

if __name__ == "__main__":
    main()
