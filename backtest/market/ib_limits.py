"""
What Interactive Brokers allows, as data; each number with its source.

Sources: [campus] IBKR Campus, TWS API documentation, "Historical Data Limitations"; [legacy] the older TWS API
pages on GitHub, since withdrawn; [users] what public code does without trouble, see the table's comment.
"""

from __future__ import annotations

# Pacing of bars of 30 secs or less and of head timestamps [campus]
SMALL_BAR_SECONDS = 30
IDENTICAL_SECONDS = 15.0  # no identical request within this time
BURST_REQUESTS = 6  # fewer than this many for one contract, exchange and kind of price ...
BURST_SECONDS = 2.0  # ... within this time
WINDOW_REQUESTS = 60  # at most this many ...
WINDOW_SECONDS = 600.0  # ... within this time; BID_ASK counts twice

# Any request
OPEN_REQUESTS = 50  # historical requests open at once [legacy]
MESSAGES_A_SECOND = 50  # above it error 100, the third time the socket is closed [campus]

# How far a single request reaches back, by bar size.
# [users]: keeps the answer near ten thousand bars: "N D" counts trading sessions, W M Y are calendar time.
PRACTICAL = {
    "1 secs": "2000 S", "5 secs": "7200 S", "10 secs": "14400 S", "15 secs": "14400 S", "30 secs": "1 D",
    "1 min": "21 D", "2 mins": "42 D", "3 mins": "63 D", "5 mins": "126 D", "10 mins": "1 Y", "15 mins": "1 Y",
    "20 mins": "1 Y", "30 mins": "2 Y", "1 hour": "5 Y", "2 hours": "5 Y", "3 hours": "5 Y", "4 hours": "5 Y",
    "8 hours": "5 Y", "1 day": "68 Y", "1 week": "68 Y", "1 month": "68 Y",
}  # fmt: skip
# [legacy]: the step table of the withdrawn page, for gateways that refuse more.
LEGACY = {
    "1 secs": "1800 S", "5 secs": "3600 S", "10 secs": "14400 S", "15 secs": "14400 S", "30 secs": "28800 S",
    "1 min": "1 D", "2 mins": "2 D", "3 mins": "5 D", "5 mins": "5 D", "10 mins": "10 D", "15 mins": "10 D",
    "20 mins": "10 D", "30 mins": "21 D", "1 hour": "21 D", "2 hours": "21 D", "3 hours": "21 D", "4 hours": "21 D",
    "8 hours": "21 D", "1 day": "1 Y", "1 week": "1 Y", "1 month": "1 Y",
}  # fmt: skip

# What a duration string may say [legacy, and read off gateways' own checks]: above it the next unit is needed
LONGEST = {"S": 86_400, "D": 365, "W": 52, "M": 12, "Y": 68}

SMALL_BARS_MONTHS = 6  # bars of 30 secs or less do not exist further back [campus]
EXPIRED_FUTURE_YEARS = 2  # nor a future that expired longer ago [campus]

# whatToShow that an instrument never has [campus]; the others are the gateway's to refuse
NEVER_SHOWN = {
    "CASH": ("TRADES", "ADJUSTED_LAST", "AGGTRADES"),
    "CFD": ("TRADES", "ADJUSTED_LAST", "AGGTRADES"),
    "CRYPTO": ("TRADES", "ADJUSTED_LAST"),
    "IND": ("MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST", "AGGTRADES"),
}
OPEN_ENDED = ("ADJUSTED_LAST",)  # prices that are only served up to now: no end date [campus]
