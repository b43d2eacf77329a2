"""
Interactive Brokers' limits as data, each number with its source.

Sources: [campus] IBKR Campus, TWS API documentation, "Historical Data Limitations"; [legacy] the older TWS API
pages on GitHub, since withdrawn; [users] values that public code uses without problems: the practical lengths.
"""

from __future__ import annotations

from backtest.market.series import BAR_SIZES

# Pacing of bars of 30 secs or less and of head timestamps [campus]
SMALL_BAR_SECONDS = 30  # the length of the longest such bars
IDENTICAL_SECONDS = 15.0  # no identical request within this time
BURST_REQUESTS = 6  # fewer than this many for one contract, exchange and kind of price ...
BURST_SECONDS = 2.0  # ... within this time
WINDOW_REQUESTS = 60  # at most this many ...
WINDOW_SECONDS = 600.0  # ... within this time; BID_ASK counts twice

# Requests and messages
OPEN_REQUESTS = 50  # at most this many historical requests open at once [legacy]
MESSAGES_A_SECOND = 50  # at most this many; above it IB sends error 100; the third time it closes the socket [campus]

# How far a single request reaches back, by bar size.
# [users]: keeps the answer near ten thousand bars: "N D" counts trading sessions, W M Y are calendar time.
PRACTICAL = {size.label: size.practical for size in BAR_SIZES.values()}
# [legacy]: the step table of the withdrawn page, for gateways that refuse more.
LEGACY = {size.label: size.legacy for size in BAR_SIZES.values()}

# What a duration string may say [legacy, and read off gateways' own checks]: above it the next unit is needed
LONGEST = {"S": 86_400, "D": 365, "W": 52, "M": 12, "Y": 68}

SMALL_BARS_MONTHS = 6  # bars of 30 secs or less: IB keeps none that are older [campus]
EXPIRED_FUTURE_YEARS = 2  # futures: IB keeps no bars of one that expired longer ago [campus]

# whatToShow that an instrument never has [campus]; the others are the gateway's to refuse
NEVER_SHOWN = {
    "CASH": ("TRADES", "ADJUSTED_LAST", "AGGTRADES"),
    "CFD": ("TRADES", "ADJUSTED_LAST", "AGGTRADES"),
    "CRYPTO": ("TRADES", "ADJUSTED_LAST"),
    "IND": ("MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST", "AGGTRADES"),
}
OPEN_ENDED = ("ADJUSTED_LAST",)  # prices that are only served up to now: no end date [campus]
