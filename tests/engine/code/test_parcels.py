"""Classes that no file defines, on their way to other processes: what arrives does what was sent."""

import pickle
import threading
from functools import cached_property

import backtrader as bt
import pytest
from market import store_with

from backtest import run
from backtest.engine.code.parcels import Parcel, sent_by_value
from backtest.errors import UsageError


def arrived(content, *modules):
    """Return content as another process gets it: a copy, as nothing that goes by value is found by its name."""
    return pickle.loads(pickle.dumps(Parcel(content, modules))).content


def family():
    """Return classes of a function's body, which no name finds."""

    class Middle(bt.Indicator):
        lines = ("mid", "double")
        params = (("period", 5),)
        plotinfo = (("subplot", False), ("plotname", "The middle"))
        plotlines = (("mid", {"color": "red"}),)

        def __init__(self):
            self.l.mid = bt.ind.SMA(self.data, period=self.p.period)
            self.l.double = self.l.mid * 2

    class Last(bt.Indicator):
        lines = ("last",)

        def next(self):
            self.l.last[0] = self.data[0]

    class Base(bt.Strategy):
        params = (("fast", 3), ("slow", 8))

        def __init__(self):
            self.fast = Middle(self.data, period=self.p.fast)

    class Cross(Base):
        params = (("slow", 6), ("average", bt.ind.SMA))

        def __init__(self):
            super().__init__()
            self.slow, self.last = self.p.average(self.data, period=self.p.slow), Last(self.data)

        @cached_property
        def size(self):
            return int(self.last[0])

        @staticmethod
        def up(one, other):
            return one > other

        def next(self):
            if self.up(self.fast.double[0] / 2, self.slow[0]) == bool(self.position):
                return
            self.close() if self.position else self.buy(size=self.size)

    return Middle, Base, Cross


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_with(tmp_path_factory.mktemp("store"), {"AAPL/1day": ("2024-01-02", "2024-06-28")})


def test_parameters_arrive_in_their_order_with_what_they_inherit():
    _, base, cross = family()

    _, own, got = arrived((None, base, cross))

    assert list(got.params._getitems()) == list(cross.params._getitems())
    assert list(got.params._getitems()) == [("fast", 3), ("slow", 6), ("average", bt.ind.SMA)]
    assert (got is not cross, got.__bases__) == (True, (own,))
    assert (got.__qualname__, got.__module__) == (cross.__qualname__, cross.__module__)


def test_lines_and_their_looks_arrive():
    middle, _, _ = family()

    got = arrived(middle)

    assert got.lines._getlines() == ("mid", "double")
    assert (got.plotinfo.plotname, got.plotinfo.subplot) == ("The middle", False)
    assert got.plotlines.mid.color == "red"


@pytest.mark.parametrize("kind", [bt.Strategy, bt.Indicator, bt.Observer, bt.Analyzer, bt.CommInfoBase, bt.Sizer])
def test_each_kind_of_backtraders_arrives(kind):
    made = type(kind)("Made", (kind,), {"params": (("size", 7),), "__module__": __name__})

    got = arrived(made)

    assert dict(got.params._getitems())["size"] == 7
    assert issubclass(got, kind)


def test_a_strategy_that_arrived_gives_the_same_orders(store):
    *_, cross = family()

    first, second = (run(one, "AAPL/1day", store=store) for one in (cross, arrived(cross)))

    assert first.orders_table.num_rows > 4
    assert second.orders_table.equals(first.orders_table)
    assert second.record.equals(first.record)


def test_a_class_of_a_file_goes_by_its_name():
    assert not sent_by_value(bt.ind.SMA)
    assert arrived(bt.ind.SMA) is bt.ind.SMA


def test_what_cannot_be_copied_is_refused_in_a_sentence():
    class Locks(bt.Strategy):
        lock = threading.Lock()

    with pytest.raises(UsageError, match=r"cannot be sent to other processes .*lock.* use one job"):
        Parcel(Locks).pack()


def test_modules_of_the_project_go_along_as_they_are_in_memory(tmp_path, monkeypatch):
    import importlib
    import sys

    (tmp_path / "sizes_beside.py").write_text("SIZE = 3\n\n\ndef size():\n    return SIZE\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("sizes_beside")
    monkeypatch.setattr(module, "SIZE", 4)

    class Sized(bt.Strategy):
        def size(self):
            return module.size()

    data = pickle.dumps(Parcel(Sized, ["sizes_beside"]))
    monkeypatch.delitem(sys.modules, "sizes_beside")
    (tmp_path / "sizes_beside.py").unlink()

    assert pickle.loads(data).content.size(None) == 4
