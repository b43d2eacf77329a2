"""`Instrument`, `BarSize`, `Series`: what bars belong to, and its spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from backtest import _arguments
from backtest._suggest import did_you_mean, nearest, there_are
from backtest._system import one_word
from backtest.errors import UsageError
from backtest.market.spellings import RENAMED_EXCHANGES, todays_words

KINDS = (
    "STK",
    "CASH",
    "FUT",
    "CONTFUT",
    "IND",
    "CFD",
    "OPT",
    "FOP",
    "BOND",
    "CRYPTO",
    "CMDTY",
    "FUND",
    "WAR",
)
PRICES = (
    "TRADES",
    "MIDPOINT",
    "BID",
    "ASK",
    "BID_ASK",
    "ADJUSTED_LAST",
    "AGGTRADES",
    "HISTORICAL_VOLATILITY",
    "OPTION_IMPLIED_VOLATILITY",
    "FEE_RATE",
)  # IB's whatToShow

FUTURE_KINDS = ("FUT", "CONTFUT")
CONTRACT_KINDS = (*FUTURE_KINDS, "OPT", "FOP")  # kinds a point of whose price is worth a multiplier
CONT = "CONT"
NO_CURRENCY = "XXX"  # ISO 4217, for prices without a currency

_LONGEST = 200  # letters of an escaped name: disks take 255 bytes, some less
_LARGEST_CON_ID = 2**31 - 1  # IB's contract numbers are of 32 bits
_EXCHANGE = r"[A-Z0-9_.]{1,20}"
_ESCAPES = "in a symbol write - as %2D, / as %2F, + as %2B, = as %3D"
_SPLITTING = frozenset('-/+=%@#,:;"\\')  # characters at which a spelling, a list of series or a rule of costs is split
_DEFAULT_EXCHANGE = {"CASH": "IDEALPRO", "CRYPTO": "PAXOS"}
_DEFAULT_PRICES = {"CASH": "MIDPOINT", "CFD": "MIDPOINT", "CMDTY": "MIDPOINT", "CRYPTO": "AGGTRADES"}


@dataclass(frozen=True, slots=True)
class BarSize:
    """
    A bar size, one row of `BAR_SIZES`; spelled by IB's label without the space, "5mins".

    Args:
        label: IB's own, such as "5 mins".
        seconds: the length of a bar: exact below a day, nominal from a day on (a trading calendar decides).
        practical: the initial length of one request to IB; see `ib_limits.PRACTICAL`.
        legacy: the same by IB's old table; see `ib_limits.LEGACY`.
        period: what one bar covers: a "session", a "week" or a "month"; "" for shorter bars, which follow the clock.
        request: the spelling in a request to IB; "" if it is the label.
    """

    label: str
    seconds: int
    practical: str = field(default="", repr=False, compare=False)
    legacy: str = field(default="", repr=False, compare=False)
    period: str = field(default="", repr=False, compare=False)
    request: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        _arguments.text(self.label, "the label of a bar size", _SIZE)
        _arguments.whole(self.seconds, "the seconds of a bar size", 1)
        for name in ("practical", "legacy", "period", "request"):
            _arguments.text(getattr(self, name), f"{name} of a bar size", "write it as a row of BAR_SIZES does")

    @classmethod
    def parse(cls, text: str) -> BarSize:
        """
        Return the bar size spelled like "5mins" or "5 mins".

        Raises:
            UsageError: IB knows no such size.
        """
        size = BAR_SIZES.get(_arguments.text(text, "a bar size", _SIZE).replace(" ", "").lower())
        if size is None:
            raise UsageError(
                f"unknown bar size {text!r}; choose from {', '.join(BAR_SIZES)}{did_you_mean(text, BAR_SIZES)}"
            )
        return size

    def __str__(self) -> str:
        return self.label.replace(" ", "")

    @property
    def daily(self) -> bool:
        """Whether a bar is stamped with a session's date: a day, a week or a month."""
        return self.seconds >= 86_400


_SIZE = "write it as IB does, such as 1day or 5mins"
BAR_SIZES = {
    str(size): size
    for size in (
        BarSize("1 secs", 1, "2000 S", "1800 S"),
        BarSize("5 secs", 5, "7200 S", "3600 S"),
        BarSize("10 secs", 10, "14400 S", "14400 S"),
        BarSize("15 secs", 15, "14400 S", "14400 S"),
        BarSize("30 secs", 30, "1 D", "28800 S"),
        BarSize("1 min", 60, "21 D", "1 D"),
        BarSize("2 mins", 120, "42 D", "2 D"),
        BarSize("3 mins", 180, "63 D", "5 D"),
        BarSize("5 mins", 300, "126 D", "5 D"),
        BarSize("10 mins", 600, "1 Y", "10 D"),
        BarSize("15 mins", 900, "1 Y", "10 D"),
        BarSize("20 mins", 1200, "1 Y", "10 D"),
        BarSize("30 mins", 1800, "2 Y", "21 D"),
        BarSize("1 hour", 3600, "5 Y", "21 D"),
        BarSize("2 hours", 7200, "5 Y", "21 D"),
        BarSize("3 hours", 10_800, "5 Y", "21 D"),
        BarSize("4 hours", 14_400, "5 Y", "21 D"),
        BarSize("8 hours", 28_800, "5 Y", "21 D"),
        BarSize("1 day", 86_400, "68 Y", "1 Y", "session"),
        BarSize("1 week", 604_800, "68 Y", "1 Y", "week", "1W"),
        BarSize("1 month", 2_592_000, "68 Y", "1 Y", "month", "1M"),
    )
}


class Qualifier(NamedTuple):
    """A qualifier of an instrument and its form; `made` marks those for series that we build, not IB."""

    what: str
    pattern: str
    example: str
    made: bool = False


QUALIFIERS = {
    "adjust": Qualifier("how prices are adjusted at a roll", r"[a-z][a-z0-9]{0,19}", "ratio", made=True),
    "class": Qualifier("IB's trading class", r".{1,64}", "SPXW"),
    "conid": Qualifier("IB's contract number, a whole number from 1", r"[1-9][0-9]{0,9}", "265598"),
    "depth": Qualifier("which contract from the nearest, a whole number from 1", r"[1-9][0-9]{0,2}", "2", made=True),
    "isin": Qualifier("an ISIN, whose last digit checks the others", r"[A-Z]{2}[A-Z0-9]{9}[0-9]", "US0378331005"),
    "local": Qualifier("IB's local symbol", r".{1,64}", "ESZ6"),
    "multiplier": Qualifier("a number above 0", r"[0-9]{1,12}(\.[0-9]{1,12})?", "5000"),
    "primary": Qualifier("the primary exchange, as IB writes it", _EXCHANGE, "NASDAQ"),
    "roll": Qualifier("when one contract follows another", r"[a-z][a-z0-9]{0,19}", "volume", made=True),
}


@dataclass(frozen=True, slots=True)
class Instrument:
    """
    A tradable instrument, in IB's terms.

    Spelled `SYMBOL-KIND-EXCHANGE-CURRENCY[-EXPIRY[-STRIKE-RIGHT]][+KEY=VALUE...]`; the keys are those of QUALIFIERS.

    Raises:
        UsageError: a word or a qualifier is not one that IB uses.
    """

    symbol: str
    kind: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    expiry: str = ""  # YYYYMM, YYYYMMDD or CONT
    strike: str = ""  # as text: 0.1 has one spelling
    right: str = ""  # C or P
    qualifiers: tuple[tuple[str, str], ...] = ()  # a mapping is taken too; kept sorted by key

    def __post_init__(self) -> None:
        for name in ("symbol", "kind", "exchange", "currency", "expiry", "strike", "right"):
            if not isinstance(getattr(self, name), str):
                _arguments.refuse(
                    f"the {name} of an instrument", getattr(self, name), "write a text, as 'AAPL' or '500'"
                )
        if not self.symbol or len(self.symbol) > 64 or not self.symbol.isprintable():
            raise UsageError(f"invalid symbol {self.symbol!r}; write one of 1 to 64 printable characters, such as AAPL")
        if self.kind not in KINDS:
            raise UsageError(f"unknown security type (kind) {self.kind!r}; {there_are(self.kind, KINDS)}")
        for name in ("exchange", "currency"):
            if not re.fullmatch(_EXCHANGE, getattr(self, name)):
                raise UsageError(f"invalid {name} {getattr(self, name)!r}; write it as IB does, such as SMART or USD")
        if self.expiry == CONT and self.kind != "FUT":
            raise UsageError(
                f"CONT stands for the expiry of a FUT, not of {self.kind}; write it as in ES-FUT-CME-USD-CONT"
            )
        if self.expiry not in ("", CONT) and not re.fullmatch(r"[0-9]{6}([0-9]{2})?", self.expiry):
            raise UsageError(
                f"invalid expiry {self.expiry!r}; write YYYYMM or YYYYMMDD, or CONT for a continuous future"
            )
        if bool(self.strike) != bool(self.right):
            raise UsageError("an option needs both a strike and a right, such as SPY-OPT-SMART-USD-20261218-500-C")
        if self.strike and not (re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", self.strike) and self.right in ("C", "P")):
            raise UsageError(
                f"invalid strike {self.strike!r} with right {self.right!r}; write, for example, 500-C or 12.5-P"
            )
        if self.strike and not self.expiry:
            raise UsageError(
                f"strike {self.strike} needs an expiry before it, such as SPY-OPT-SMART-USD-20261218-500-C"
            )
        object.__setattr__(self, "qualifiers", _checked_qualifiers(self.qualifiers))
        if len(self.key) > _LONGEST:
            raise UsageError(f"{self.key} is too long: the name of its folder may have {_LONGEST} characters at most")

    @classmethod
    def parse(cls, text: str) -> Instrument:
        """
        Return the instrument spelled like "AAPL" or "EUR-CASH-IDEALPRO-USD"; omitted parts take their defaults.

        Raises:
            UsageError: a word or a qualifier is not one that IB uses.
        """
        spelled, *qualifiers = _arguments.text(
            text, "an instrument", "write, for example, AAPL or EUR-CASH-IDEALPRO-USD"
        ).split("+")
        words = spelled.split("-")
        if len(words) > 7:
            raise UsageError(
                f"{text!r} has too many words for SYMBOL-KIND-EXCHANGE-CURRENCY-EXPIRY-STRIKE-RIGHT; {_ESCAPES}"
            )
        if "=" in spelled:
            hint = _meant(spelled.replace("=", "%3D"))
            raise UsageError(f"{text!r} has a = outside of +KEY=VALUE; {_ESCAPES}{hint}")
        symbol = _unescape(words[0])
        kind = _word(words, 1) or "STK"
        if kind not in KINDS:
            hint = (_meant(".".join(words)) if len(words) == 2 else "") or did_you_mean(kind, KINDS)
            raise UsageError(f"unknown security type (kind) {kind!r}; choose from {', '.join(KINDS)}; {_ESCAPES}{hint}")
        exchange = _word(words, 2) or _DEFAULT_EXCHANGE.get(kind, "SMART")
        strike = _plain(words[5]) if len(words) > 5 and re.fullmatch(r"[0-9]+\.[0-9]+", words[5]) else _word(words, 5)
        return cls(
            symbol,
            kind,
            exchange,
            _word(words, 3) or "USD",
            _word(words, 4),
            strike,
            _word(words, 6),
            tuple(_parsed_qualifier(pair, text) for pair in qualifiers),
        )

    def __str__(self) -> str:
        return self._spelled(_shown)

    @property
    def key(self) -> str:
        """The spelling for files: the readable one, but with every character outside A-Z, 0-9 and _ escaped."""
        return self._spelled(_escape)

    def qualifier(self, key: str) -> str:
        """Return the value of a qualifier, "" if the instrument does not have it."""
        known = _arguments.text(key, "the key of a qualifier", "write, for example, primary")
        return dict(self.qualifiers).get(known, "")

    @property
    def rolls(self) -> bool:
        """Whether it is IB's continuous future, which refers to another contract after each roll."""
        return self.kind == "CONTFUT"

    @property
    def made(self) -> bool:
        """Whether its bars have to be built from stored contracts, since no vendor serves them."""
        return self.expiry == CONT or any(QUALIFIERS[key].made for key, _ in self.qualifiers)

    def _today(self) -> tuple[Instrument, str]:
        """Return the instrument as IB writes it today, and the difference; itself and "" if there is none."""
        words, why = todays_words(self.symbol, self.kind, self.exchange, self.currency)
        primary = self.qualifier("primary")
        if not why and primary in RENAMED_EXCHANGES:
            why = f"IB calls {primary} {RENAMED_EXCHANGES[primary]} today"
        if not why:
            return self, ""
        symbol, kind, exchange, currency = words
        qualifiers = {
            **dict(self.qualifiers),
            **({"primary": RENAMED_EXCHANGES.get(primary, primary)} if primary else {}),
        }
        return replace(
            self, symbol=symbol, kind=kind, exchange=exchange, currency=currency, qualifiers=tuple(qualifiers.items())
        ), why

    def _spelled(self, escape: Callable[[str], str], shortest: bool = False) -> str:
        named = (self.symbol, self.kind, self.exchange, self.currency, self.expiry, self.strike, self.right)
        words = [word for word in named if word]
        defaults = ("", "STK", _DEFAULT_EXCHANGE.get(self.kind, "SMART"), "USD")
        while shortest and 1 < len(words) <= 4 and words[-1] == defaults[len(words) - 1]:
            words.pop()
        spelled = [escape(word) for word in words]
        if self.strike and _plain(self.strike) != self.strike:
            spelled[5] = _escape(self.strike)  # 500.0 in an old folder: typed with its point it would mean 500
        qualifiers = (f"+{key}={value if QUALIFIERS[key].made else escape(value)}" for key, value in self.qualifiers)
        return "-".join(spelled) + "".join(qualifiers)


@dataclass(frozen=True, slots=True)
class ContractDetails:
    """A vendor's details of an instrument; stored beside its bars."""

    con_id: int = 0
    local_symbol: str = ""
    trading_class: str = ""
    name: str = ""
    primary_exchange: str = ""
    valid_exchanges: str = ""
    time_zone: str = ""
    min_tick: float = 0.01
    multiplier: str = ""
    last_trade_date: str = ""
    contract_month: str = ""  # YYYYMM; oil of December trades for the last time in November
    trading_hours: str = ""  # as IB writes them: 20240102:0930-20240102:1600;20240103:CLOSED
    liquid_hours: str = ""  # the same for regular hours
    price_magnifier: str = ""  # how many units of price are one of the currency: 100 of pence


_HOURS = ("rth", "all")
_REMEMBERED = 1 << 14  # spellings that were read: the numbers and the page of a run ask for each of them many times
_SERIES = "write INSTRUMENT/BARSIZE[/PRICES[/rth|all]], such as AAPL/1day"


@dataclass(frozen=True, slots=True)
class Series:
    """The bars of an instrument with one bar size and one kind of price (IB's whatToShow), in regular hours or all."""

    instrument: Instrument
    size: BarSize
    prices: str = "TRADES"
    regular_hours: bool = True

    def __post_init__(self) -> None:
        _arguments.instance(self.instrument, "a series' instrument", Instrument, 'write Series.parse("AAPL/1day")')
        _arguments.instance(self.size, "the size of a series", BarSize, 'write BarSize.parse("1day")')
        _arguments.truth(self.regular_hours, "regular_hours")
        if _arguments.text(self.prices, "the prices of a series", "write, for example, TRADES") not in PRICES:
            raise UsageError(f"unknown price type {self.prices!r}; {there_are(self.prices, PRICES)}")

    def __hash__(self) -> int:
        # Of what mostly differs: a run over hundreds of series asks for it tens of thousands of times.
        own = self.instrument
        return hash((own.symbol, own.expiry, own.strike, own.right, self.size.seconds, self.prices))

    @classmethod
    def parse(cls, text: str) -> Series:
        """
        Return the series spelled INSTRUMENT/BARSIZE[/PRICES[/rth|all]], such as "AAPL/1day".

        Raises:
            UsageError: the text is not of that form.
        """
        return _parsed(_arguments.text(text, "a series", _SERIES))

    @classmethod
    def _read(cls, text: str) -> Series:
        words = text.strip().split("/")
        if not 2 <= len(words) <= 4:
            what = "has too many parts" if len(words) > 4 else "has no bar size"
            more = f"; {_ESCAPES}" if len(words) > 4 else _with_a_size(words[0])
            raise UsageError(f"{text!r} {what}; write INSTRUMENT/BARSIZE[/PRICES[/rth|all]], such as AAPL/1day{more}")
        try:
            size = BarSize.parse(words[1])
        except UsageError as error:
            hint = "" if words[1].upper() in PRICES else _meant(".".join(words[:2]), *words[2:])
            raise UsageError(f"{error}; {_ESCAPES}{hint}" if len(words) > 2 else str(error)) from error
        instrument = Instrument.parse(words[0])
        usual = _DEFAULT_PRICES.get(instrument.kind, "TRADES")
        if len(words) == 3 and words[2].lower() in _HOURS:
            words.insert(2, usual)
        prices = words[2].upper() if len(words) > 2 else usual
        hours = words[3].lower() if len(words) > 3 else "rth"
        if hours not in _HOURS:
            raise UsageError(f"{text!r} ends in {words[3]!r}; write rth for regular hours or all for all hours")
        return cls(instrument, size, prices, hours == "rth")

    def __str__(self) -> str:
        return f"{self.instrument}/{self._rest}"

    def _repr_html_(self) -> str:
        from backtest._notebook import html_table

        return html_table(["Series", "In full"], [[self.short, str(self)]])

    @property
    def key(self) -> str:
        """The spelling in folder names, manifests, pins, runs and sweeps; `parse` reads it."""
        return _key_of(self)

    @property
    def short(self) -> str:
        """The shortest spelling of the same series."""
        return _short_spelling(self)

    @property
    def short_key(self) -> str:
        """The shortest spelling, escaped as in `key`: for the names of files."""
        return self._shortest(_escape)

    @property
    def quoted(self) -> str:
        """The shortest spelling as one shell word, for commands that an error suggests."""
        return one_word(self.short)

    @property
    def _rest(self) -> str:
        return f"{self.size}/{self.prices}/{'rth' if self.regular_hours else 'all'}"

    def _shortest(self, escape: Callable[[str], str]) -> str:
        prices = "" if self.prices == _DEFAULT_PRICES.get(self.instrument.kind, "TRADES") else f"/{self.prices}"
        hours = "" if self.regular_hours else f"{prices or '/' + self.prices}/all"
        return f"{self.instrument._spelled(escape, shortest=True)}/{self.size}{hours or prices}"

    @property
    def rewritten(self) -> bool:
        """Whether its past changes, as with each dividend or roll, so that it can only be replaced as a whole."""
        return self.prices == "ADJUSTED_LAST" or self.instrument.rolls


@lru_cache(maxsize=_REMEMBERED)
def _parsed(text: str) -> Series:
    return Series._read(text)


@lru_cache(maxsize=_REMEMBERED)
def _key_of(series: Series) -> str:
    return f"{series.instrument.key}/{series._rest}"


@lru_cache(maxsize=_REMEMBERED)
def _short_spelling(series: Series) -> str:
    return series._shortest(_shown)


def refuse_made(wanted: Instrument) -> None:
    """Raise UsageError for bars that have to be built from stored contracts, which this version cannot do."""
    if not wanted.made:
        return
    words = [CONT] if wanted.expiry == CONT else []
    words += [f"+{key}={value}" for key, value in wanted.qualifiers if QUALIFIERS[key].made]
    own = replace(wanted, kind="CONTFUT", expiry="", qualifiers=())
    other = f"one expiry, or IB's own continuous future, {own}" if wanted.expiry == CONT else "it without them"
    raise UsageError(
        f"not yet supported: {wanted} requests, by {' '.join(words)}, bars that are built from several contracts, "
        f"which this version does not do; name {other}"
    )


def series_of(given: Series | str) -> Series:
    """
    Return a series, given as one or by its spelling.

    Raises:
        UsageError: it is neither.
    """
    return given if isinstance(given, Series) else Series.parse(given)


def several_series(given: Any) -> list[Series]:
    """
    Return one series or several, given as such or by their spellings.

    Raises:
        UsageError: one is neither.
    """
    if isinstance(given, Series | str):
        return [series_of(given)]
    if hasattr(given, "__arrow_c_stream__"):
        raise UsageError(
            "a data frame is not a series; `run`, `sweep` and similar functions accept one; for others put it into "
            'a store with backtest.ingest(frame, "AAPL/1day", store), and name "AAPL/1day"'
        )
    return [series_of(one) for one in _arguments.several(given, "the series", f"{_SERIES}, or a list of such")]


def few(names: Sequence[str]) -> str:
    """Return the names of series in short: three at most, or the first two and the number of the others."""
    return (
        ", ".join(names) if len(names) <= _FEW else f"{', '.join(names[: _FEW - 1])} and {len(names) - _FEW + 1:,} more"
    )


_FEW = 3


def _parsed_qualifier(pair: str, text: str) -> tuple[str, str]:
    key, mark, value = pair.partition("=")
    if not mark:
        raise UsageError(
            f"{text!r} has a + that no KEY=VALUE follows; write, for example, SI-FUT-COMEX-USD-202612+multiplier=5000; "
            f"{_ESCAPES}"
        )
    key = key.strip().lower()
    return key, _unescape(value).lower() if key in QUALIFIERS and QUALIFIERS[key].made else _unescape(value)


def _checked_qualifiers(given: Any) -> tuple[tuple[str, str], ...]:
    checked: dict[str, str] = {}
    try:
        pairs = [(str(key), str(value)) for key, value in (given.items() if isinstance(given, Mapping) else given)]
    except (TypeError, ValueError) as error:
        raise UsageError(f"no qualifiers {given!r}; write pairs, such as {{'primary': 'NASDAQ'}}") from error
    for key, value in pairs:
        if key not in QUALIFIERS:
            raise UsageError(f"no qualifier {key!r}; {there_are(key, QUALIFIERS)}")
        if key in checked:
            raise UsageError(f"the qualifier {key} is named twice, as {checked[key]!r} and {value!r}; name it once")
        checked[key] = _checked_value(key, value)
    return tuple(sorted(checked.items()))


def _checked_value(key: str, value: str) -> str:
    form = QUALIFIERS[key]
    fits = bool(re.fullmatch(form.pattern, value)) and value.isprintable() and value.strip() != ""
    if fits and key == "multiplier":
        value = _plain(value)
        fits = value != "0"
    if not fits or (key == "conid" and int(value) > _LARGEST_CON_ID) or (key == "isin" and not _is_isin(value)):
        raise UsageError(f"invalid {key} {value!r}: it must be {form.what}, such as +{key}={form.example}")
    return value


def _is_isin(text: str) -> bool:
    """Return whether the last digit checks the others, as ISO 6166 says: by Luhn, letters counted from A = 10."""
    digits = [int(digit) for digit in "".join(str(int(character, 36)) for character in text)]
    doubled = [2 * digit for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(digit // 10 + digit % 10 for digit in doubled)) % 10 == 0


def _plain(number: str) -> str:
    """Return a decimal number without trailing zeros: 5000 for 5000.0."""
    from decimal import Decimal

    text = f"{Decimal(number):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _word(words: list[str], place: int) -> str:
    return _unescape(words[place]) if place < len(words) else ""


def _shown(word: str) -> str:
    """Return a word for people, escaped only where it would otherwise be read as something else."""
    inner = "".join(_percent(one) if one in _SPLITTING or one.upper() != one else one for one in word)
    start, end = len(inner) - len(inner.lstrip(" ")), len(inner.rstrip(" "))
    return "%20" * start + inner[start:end] + "%20" * (len(inner) - max(start, end))


def _escape(word: str) -> str:
    # Lower case is escaped too: on a case-blind disk 'aapl' and 'AAPL' must not be one folder.
    return re.sub(r"[^A-Z0-9_]", lambda found: _percent(found[0]), word)


def _percent(character: str) -> str:
    quoted = quote(character, safe="", errors="surrogatepass")  # half of a pair is refused later: it is not printable
    return quoted if quoted.startswith("%") else f"%{ord(character):02X}"


def _unescape(word: str) -> str:
    # Typed lower case means the upper case that IB uses; escaped lower case stays as it is.
    parts = re.split(r"((?:%[0-9A-Fa-f]{2})+)", word.strip(" "))
    try:
        return "".join(unquote(part, errors="strict") if n % 2 else part.upper() for n, part in enumerate(parts))
    except UnicodeDecodeError as error:
        raise UsageError(f"{word!r} has an escape that is not UTF-8; write, for example, %20 for a space") from error


def _with_a_size(instrument: str) -> str:
    """Return the spelling of an instrument's daily bars, as the end of a message; "" if it is not an instrument."""
    try:
        found = Series(Instrument.parse(instrument), BAR_SIZES["1day"])
    except UsageError:
        return ""
    usual = replace(found, prices=_DEFAULT_PRICES.get(found.instrument.kind, "TRADES"))
    return did_you_mean_today(usual) or f"; did you mean {usual.quoted}, its daily bars?"


def did_you_mean_today(wanted: Instrument | Series) -> str:
    """Return IB's current spelling of an instrument or a series, as the end of a message; "" if it is current."""
    if isinstance(wanted, Instrument):
        today, why = wanted._today()
        spelling = today._spelled(_shown, shortest=True)
    else:
        today, why = wanted.instrument._today()
        usual = wanted.prices == _DEFAULT_PRICES.get(wanted.instrument.kind, "TRADES")
        prices = _DEFAULT_PRICES.get(today.kind, "TRADES") if usual else wanted.prices
        spelling = replace(wanted, instrument=today, prices=prices).short
    return f"; did you mean {one_word(spelling)} ({why})?" if why else ""


def _meant(symbol: str, *rest: str) -> str:
    """Return the same for another vendor's symbol that was split into words, "" if it is not one."""
    try:
        if rest:
            return did_you_mean_today(Series.parse("/".join((_escape(_unescape(symbol)), *rest))))
        return did_you_mean_today(Instrument(_unescape(symbol)))
    except UsageError:
        return ""


_NO_PRICES = {"FEE_RATE", "HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY"}  # rates, which no price can replace


def did_you_mean_series(wanted: Series, known: Iterable[Series]) -> str:
    """Return similar series of the same symbol, otherwise of the nearest one; an equal bar size is not enough."""
    others = [one for one in known if one != wanted]
    stored = any(one.instrument == wanted.instrument for one in others)
    if not stored and (hint := did_you_mean_today(wanted)):
        return hint
    symbols = nearest(wanted.instrument.symbol, [one.instrument.symbol for one in others], 1)
    comparable = [one for one in others if one.prices == wanted.prices or not {one.prices, wanted.prices} & _NO_PRICES]
    alike = [one for one in comparable if one.instrument.symbol in symbols]
    of_its_size = [one for one in alike if (one.size, one.prices) == (wanted.size, wanted.prices)]
    near = [one.short for one in of_its_size or alike][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
