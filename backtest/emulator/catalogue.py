"""`Catalogue`: the current instruments of a store as listings; other processes may write to it at any time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backtest.emulator.contracts import Listing, fits, listing_of
from backtest.emulator.protocol import ContractQuery
from backtest.errors import DamagedStore
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.store.reader import manifest_or_empty
from backtest.store.store import Store, instrument_keys, series_of_instrument

if TYPE_CHECKING:
    from backtest.store.reader import Reader


class Catalogue:
    """
    The stored series, by instrument.

    A query looks for new instruments, and only into the folders of those that it may mean: otherwise each request of a
    nightly update of 2,000 series would look into 8,000 folders.
    """

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._series: dict[str, frozenset[Series]] = {}  # by the key of their instrument
        self._listings: dict[str, Listing] = {}
        self._by_symbol: defaultdict[str, set[str]] = defaultdict(set)
        self._by_number: defaultdict[int, set[str]] = defaultdict(set)
        self._damaged: dict[str, tuple[str, DamagedStore]] = {}  # symbols and what is wrong, by the same keys

    def every(self) -> list[Listing]:
        """Return all listings, sorted by spelling."""
        self._look_for_others()
        return self._look_at(list(self._listings))

    def fitting(self, query: ContractQuery) -> list[Listing]:
        """Return the listings that a description matches."""
        self._look_for_others()
        keys: Iterable[str] = self._listings
        if query.con_id:
            keys = self._by_number.get(query.con_id, ())
        elif query.symbol:
            keys = self._by_symbol.get(query.symbol, ())
        found = [listing for listing in self._look_at(list(keys)) if fits(query, listing)]
        for symbol, error in self._damaged.values():
            if symbol == query.symbol or (query.con_id and not found):
                raise error
        return found

    def same_contract(self, listing: Listing) -> list[Listing]:
        """Return the listings of the same contract on the same exchange, under any spelling."""
        found = self._look_at(list(self._by_number[listing.facts.con_id]))
        return [one for one in found if one.instrument.exchange == listing.instrument.exchange]

    def has(self, series: Series) -> bool:
        """Return whether a series was stored when its instrument was last read."""
        return series in self._series.get(series.instrument.key, ())

    def read_again(self) -> None:
        """Read the details of every instrument again."""
        for key in list(self._series):
            self._take(key, ())
        self._look_for_others()

    def _look_for_others(self) -> None:
        """Add the instruments that were stored since, and remove those that are gone."""
        if isinstance(self._store, Store):
            there = instrument_keys(self._store)
            new = [(key, series_of_instrument(self._store, key)) for key in there - self._series.keys()]
        else:
            found: defaultdict[str, list[Series]] = defaultdict(list)
            for series in self._store.series():
                found[series.instrument.key].append(series)
            there, new = frozenset(found), list(found.items())
        self._damaged = {key: damaged for key, damaged in self._damaged.items() if key in there}
        for key, stored in [*new, *((key, []) for key in self._series.keys() - there)]:
            self._take(key, stored)

    def _look_at(self, keys: list[str]) -> list[Listing]:
        """Return the listings of instruments with their current stored series, sorted by spelling."""
        if isinstance(self._store, Store):
            for key in keys:
                self._take(key, series_of_instrument(self._store, key))
        return [self._listings[key] for key in sorted(keys, key="{}/".format) if key in self._listings]

    def _take(self, key: str, stored: Iterable[Series]) -> None:
        series = frozenset(stored)
        if series == self._series.get(key, frozenset()):
            return
        if old := self._listings.pop(key, None):
            self._by_symbol[old.instrument.symbol].discard(key)
            self._by_number[old.facts.con_id].discard(key)
            del self._series[key]
        self._damaged.pop(key, None)
        if series:
            try:
                listing = self._listed(series)
            except DamagedStore as error:  # the others are served all the same
                self._damaged[key] = next(iter(series)).instrument.symbol, error
                return
            self._series[key], self._listings[key] = series, listing
            self._by_symbol[self._listings[key].instrument.symbol].add(key)
            self._by_number[self._listings[key].facts.con_id].add(key)

    def _listed(self, stored: frozenset[Series]) -> Listing:
        instrument: Instrument = next(iter(stored)).instrument
        facts: ContractDetails | None = None
        for series in sorted(stored, key=lambda one: one.key):
            facts = facts or manifest_or_empty(self._store, series).contract
        return listing_of(instrument, facts)
