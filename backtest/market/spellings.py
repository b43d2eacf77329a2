"""`todays_words`: IB's current name for something spelled the old way, or another vendor's way."""

from __future__ import annotations

import re

# Exchanges that IB has renamed: futures in 2022, when it removed the old names from the guide of its API (3 October
# 2022) and moved the products in four waves until 4 December, DTB and SOFFEX in July; ISLAND with TWS 10.27.
RENAMED_EXCHANGES = {
    "GLOBEX": "CME",
    "CMECRYPTO": "CME",
    "ECBOT": "CBOT",
    "DTB": "EUREX",
    "SOFFEX": "EUREX",
    "ISLAND": "NASDAQ",
}
# Metals went from NYMEX to COMEX with the third and fourth wave; platinum and palladium are of NYMEX itself.
_METALS = ("ALI", "GC", "HG", "MGC", "MHG", "QC", "QI", "QO", "SI", "SIL")
_CURRENCIES = {
    "AED", "AUD", "CAD", "CHF", "CNH", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "INR", "JPY",
    "KRW", "MXN", "NOK", "NZD", "PLN", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "USD", "ZAR",
}  # fmt: skip
_COINS = {"BCH", "BTC", "ETH", "LTC"}
_FUTURES = ("FUT", "CONTFUT", "FOP", "IND")

Words = tuple[str, str, str, str]  # symbol, kind, exchange, currency


def todays_words(symbol: str, kind: str, exchange: str, currency: str) -> tuple[Words, str]:
    """Return IB's current four words for an instrument, and why they differ; "" if they do not."""
    if exchange in RENAMED_EXCHANGES or (exchange == "NYMEX" and symbol in _METALS and kind in _FUTURES):
        today = RENAMED_EXCHANGES.get(exchange, "COMEX")
        return (symbol, kind, today, currency), f"IB calls {exchange} {today} today"
    pair = re.fullmatch(r"([A-Z]{3})[./]?([A-Z]{3})(=X)?", symbol)
    if pair and kind in ("STK", "CASH", "CRYPTO") and pair[1] != pair[2]:
        base, quote = pair[1], pair[2]
        if {base, quote} <= _CURRENCIES:
            return (base, "CASH", "IDEALPRO", quote), "a currency pair: IB writes its currencies separately"
        if base in _COINS and quote == "USD":
            return (base, "CRYPTO", "PAXOS", quote), "a cryptocurrency: IB writes its currency separately"
    share = re.fullmatch(r"([A-Z0-9]{1,6})\.([A-Z]{1,4})", symbol)
    if share and kind in ("STK", "OPT", "CFD", "WAR") and currency == "USD":
        return (f"{share[1]} {share[2]}", kind, exchange, currency), "IB writes the share class after a space"
    return (symbol, kind, exchange, currency), ""
