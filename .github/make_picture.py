"""
Make the picture of the README: SMA cross on the sample's AAPL, against buy and hold.

Run:  python .github/make_picture.py
"""

from pathlib import Path

from backtest import run

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write first-light.png beside this file."""
    result = run(ROOT / "strategies" / "sma_cross.py", "AAPL/1day", store=ROOT / "data" / "sample")
    result.plot().savefig(
        Path(__file__).with_name("first-light.png"), dpi=110, facecolor="white", metadata={"Software": ""}
    )


if __name__ == "__main__":
    main()
