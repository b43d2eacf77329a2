"""`MarginTable`: the account of a run, by name or from a file of rates, and the products that it covers."""

from __future__ import annotations

import csv
import hashlib
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from backtest import _arguments
from backtest._suggest import there_are
from backtest.engine.account.commissions import Costs, is_own, per_contract
from backtest.engine.account.margin.requirements import LEAST_EQUITY, REG_T_STOCK, Rates
from backtest.errors import UsageError, quoted, reason
from backtest.market.hours import hours_of
from backtest.market.series import CONTRACT_KINDS, FUTURE_KINDS, KINDS, Series
from backtest.runs.currencies import BY_CURRENCY, base_currency, currency_of
from backtest.runs.spec import BACKTRADER, Brokerage, margin_rules

CASH, REG_T = "cash", "reg-t"
ACCOUNTS = (BACKTRADER, CASH, REG_T)  # or the path of a file
_COLUMNS = ("initial_long", "maintenance_long", "initial_short", "maintenance_short")
_EXAMPLE = "write product,initial_long,maintenance_long,initial_short,maintenance_short and lines such as STK,0.5,0.25"
_LARGEST = {"long": 1.0, "short": 5.0}  # fractions of the value; 50 would be a percentage
_LEAST_MONEY = 1.0  # per contract; 0.1 would be a fraction of its value
_OPTIONS = ("OPT", "FOP")
_OF_OPTIONS = "IB lends nothing on long options, and margins short ones by their underlying; leave it out"
_US = "XNYS"  # the calendar of US stocks


@dataclass(frozen=True, slots=True)
class MarginTable:
    """
    The rates of an account by product: a kind of instrument (STK), a symbol with its kind (ES-FUT), or a series.

    Attributes:
        name: "cash", "reg-t", or the name of a file.
        least_equity: the equity below which nothing is lent.
    """

    name: str
    rows: tuple[tuple[str, Rates], ...] = ()
    least_equity: float = 0.0

    @property
    def is_cash(self) -> bool:
        """Whether the account lends nothing, and money has to settle before it is spent."""
        return self.name == CASH

    @property
    def digest(self) -> str:
        """The SHA-256 of all rates."""
        rows = sorted((product, repr(astuple(rates))) for product, rates in self.rows)
        return hashlib.sha256(repr((self.name, rows, self.least_equity)).encode()).hexdigest()

    @property
    def document(self) -> dict[str, Any]:
        """The table for JSON, which `MarginTable.read` takes."""
        rows = {product: _without_nan(asdict(rates)) for product, rates in self.rows}
        return {"name": self.name, "sha256": self.digest, "rates": rows, "least_equity": self.least_equity}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> MarginTable:
        """Return the table of a document."""
        rows = tuple(
            (product, Rates(**{**dict.fromkeys(_COLUMNS, math.nan), **rates}))
            for product, rates in document["rates"].items()
        )
        return cls(document["name"], rows, document["least_equity"])

    def of(self, series: Series) -> Rates | None:
        """Return the rates of a series, by the most specific product that includes it; None if there are none."""
        rows, instrument = dict(self.rows), series.instrument
        for product in (series.short, f"{instrument.symbol}-{instrument.kind}", instrument.kind):
            if product in rows:
                return rows[product]
        return None


def margin_table(given: Any) -> MarginTable | None:
    """
    Return the account for a word or a file, or a given table itself; None for Backtrader's own rules.

    Raises:
        UsageError: there is no such word, or the file cannot be read.
    """
    if isinstance(given, MarginTable):
        return given
    if given == BACKTRADER:
        return None
    if given == CASH:
        return MarginTable(CASH, (("STK", replace(REG_T_STOCK, initial_long=1.0, maintenance_long=1.0)),))
    if given == REG_T:
        return MarginTable(REG_T, (("STK", REG_T_STOCK),), LEAST_EQUITY)
    if not isinstance(given, str):
        raise UsageError(
            f"account is {given!r:.80}; write one of {', '.join(ACCOUNTS)}, or the path of a "
            "file of margin requirements"
        )
    path = Path(given)
    if path.suffix not in (".csv", ".toml"):
        raise UsageError(
            f"unknown account {quoted(given)}; name a .csv or .toml file of margin requirements ({_EXAMPLE}), or "
            f"{there_are(given, ACCOUNTS)}"
        )
    return MarginTable(path.name if path.is_absolute() else path.as_posix(), tuple(_rows(path)))


def check_account(
    table: MarginTable | None, brokerage: Brokerage, series: Sequence[Series] = (), costs: Costs | None = None
) -> None:
    """
    Refuse what an account has no known rules for.

    Raises:
        UsageError: the account has no rules for a product, a currency, or another option of the run; the text names it.
    """
    if table is None:
        return
    base = base_currency(series, brokerage.currency) if series else ""
    if brokerage.conversion == BY_CURRENCY and any(currency_of(one.instrument) != base for one in series):
        raise UsageError(
            f"an account {table.name} only borrows in its own currency here, but IB lends each currency where cash is "
            "held "
            "in each; leave out --conversion"
        )
    for one in series:
        _check_product(table, one, brokerage, costs)


def _check_product(table: MarginTable, series: Series, brokerage: Brokerage, costs: Costs | None) -> None:
    kind = series.instrument.kind
    if table.name not in (CASH, REG_T):
        if kind in _OPTIONS:
            raise UsageError(f"the margin of {series.short} cannot be given as a rate; {_OF_OPTIONS}")
        if table.of(series) is None:
            raise UsageError(f"{table.name} has no rates for {series.short}; add a line for {kind}, or for the series")
        return
    if kind == "STK" and series.instrument.currency == "USD" and hours_of(series.instrument).calendar == _US:
        return
    if table.name == REG_T and kind in FUTURE_KINDS:
        rules = margin_rules(brokerage.margin)
        charged = costs is not None and (per_contract(costs) is not None or is_own(costs))
        if charged or series.short in rules or "" in rules:
            return
        raise UsageError(f"the margin of one {series.short} contract is unknown; write --margin 15000")
    others = " and futures with --margin" if table.name == REG_T else ""
    raise UsageError(
        f"account {table.name} has rules for US stocks in USD{others} only, and {series.short} is {kind} on "
        f"{series.instrument.exchange} in {series.instrument.currency}; name a file of "
        "margin requirements: --account FILE"
    )


def with_margins(brokerage: Brokerage, table: MarginTable | None, series: Sequence[Series]) -> Brokerage:
    """Return a brokerage with the table's margins for futures, unless the caller sets them."""
    if table is None:
        return brokerage
    rules = margin_rules(brokerage.margin)
    found = {
        one.short: rates.initial_long
        for one in series
        if one.instrument.kind in FUTURE_KINDS and (rates := table.of(one)) is not None
    }
    if not found or "" in rules or found.keys() <= rules.keys():
        return brokerage
    return replace(
        brokerage, margin=",".join(f"{name}={money:.15g}" for name, money in sorted((found | rules).items()))
    )


def with_kept_account(brokerage: Brokerage, manifest: Mapping[str, Any]) -> Brokerage:
    """Return the brokerage of a saved run with the exact rates of its account, if these came from a file."""
    kept = manifest.get("account")
    if kept is None or brokerage.account in ACCOUNTS:
        return brokerage
    return replace(brokerage, account=MarginTable.read(kept))


def _rows(path: Path) -> Iterator[tuple[str, Rates]]:
    try:
        text = _arguments.text_of(path)
        rows = tomllib.loads(text) if path.suffix == ".toml" else _of_csv(text)
        pairs = [(str(product), dict(cells)) for product, cells in rows.items()]
    except (OSError, UnicodeDecodeError, csv.Error, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise UsageError(
            f"cannot read margin requirements from {quoted(path)} ({reason(error)}); {_EXAMPLE}"
        ) from error
    if not pairs:
        raise UsageError(f"{path} has no rates; {_EXAMPLE}")
    found = dict[str, str]()  # the spelling of each product
    for product, cells in pairs:
        name = _product(path, product)
        if name in found:
            raise UsageError(f"{path} has {name} twice, as {found[name]} and as {product}; leave out one of them")
        found[name] = product
        yield name, _rates(path, product, cells)


def _of_csv(text: str) -> dict[str, dict[str, str]]:
    reader = csv.DictReader(line for line in text.splitlines() if line.strip())
    found: dict[str, dict[str, str]] = {}
    names = [name.strip() for name in reader.fieldnames or []]
    if several := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the column {several[0]} appears twice")
    for row in reader:
        if None in row or "product" not in row:
            raise ValueError(f"the columns are {', '.join(filter(None, reader.fieldnames or []))}")
        product = (row.pop("product") or "").strip()
        if product in found:
            raise ValueError(f"{product} appears twice")
        found[product] = {name.strip(): value.strip() for name, value in row.items() if value and value.strip()}
    return found


def _product(path: Path, product: str) -> str:
    symbol, dash, kind = product.rpartition("-")
    if product in KINDS or (dash and symbol and kind in KINDS and "/" not in product):
        return product
    try:
        if "/" not in product:
            raise UsageError("it is not a security type (kind)")
        return Series.parse(product).short
    except UsageError as error:
        raise UsageError(
            f"{path} has the product {product!r} ({error}); write one of "
            f"{', '.join(kind for kind in KINDS if kind not in _OPTIONS)}, a symbol with it such as ES-FUT, or a series"
        ) from error


def _rates(path: Path, product: str, cells: Mapping[str, Any]) -> Rates:
    if unknown := sorted({*cells} - {*_COLUMNS}):
        raise UsageError(f"{path} has the unknown column {unknown[0]} for {product}; {there_are(unknown[0], _COLUMNS)}")
    if _kind_of(product) in _OPTIONS:
        raise UsageError(
            f"{path} has rates for {product}, but the margin of an option cannot be given as a rate; {_OF_OPTIONS}"
        )
    by_contract = _kind_of(product) in CONTRACT_KINDS
    numbers = {name: _number(path, product, name, cells.get(name), by_contract) for name in _COLUMNS}
    for side in ("long", "short"):
        initial, held = numbers[f"initial_{side}"], numbers[f"maintenance_{side}"]
        if math.isnan(initial) != math.isnan(held) or held > initial:
            first, second = ("nothing" if math.isnan(one) else f"{one:g}" for one in (initial, held))
            raise UsageError(
                f"{path} has initial_{side} {first} and maintenance_{side} {second} for {product}; write both, with "
                "maintenance not above initial"
            )
    if math.isnan(numbers["initial_long"]):
        raise UsageError(f"{path} has no initial_long for {product}; {_EXAMPLE}")
    initial_long, maintenance_long, initial_short, maintenance_short = numbers.values()
    return Rates(initial_long, maintenance_long, initial_short, maintenance_short, by_contract)


def _kind_of(product: str) -> str:
    if "/" in product:
        return Series.parse(product).instrument.kind
    return product.rpartition("-")[2]


def _number(path: Path, product: str, name: str, given: Any, by_contract: bool) -> float:
    if given is None:
        return math.nan
    try:
        found = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        found = math.nan
    least, most = (_LEAST_MONEY, math.inf) if by_contract else (0.0, _LARGEST[name.rpartition("_")[2]])
    if not 0 < found < math.inf or not least <= found <= most:
        share = f"a share of the value, such as 0.25 for 25 %, at most {most:g}"
        meant = "money per contract, such as 15000" if by_contract else share
        raise UsageError(f"{path} has {given!r} as {name} for {product}; write {meant}")
    return found


def _without_nan(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if value == value}
