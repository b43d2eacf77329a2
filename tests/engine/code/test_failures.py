"""Code that is not ours may raise anything, anywhere: each is an error of the strategy, with file, line and what."""

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, date, datetime

import backtrader as bt
import pytest
from places import ROOT

from backtest.api import run
from backtest.engine.code.failures import code_of_others, said
from backtest.engine.code.strategy import load_strategy
from backtest.errors import NoBars, StrategyError, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.research.search.sweeps import sweep
from backtest.store.store import Store

SAMPLE = ROOT / "data" / "sample"


@pytest.fixture
def store(tmp_path):
    """Return a store of ten days of one series."""
    rows = [
        (datetime(2024, 1, 1 + n, tzinfo=UTC), 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1e6, None, None)
        for n in range(10)
    ]
    made = Store(tmp_path / "bars")
    made.write(Series.parse("AAPL/1day"), Span.of_dates(date(2024, 1, 1), date(2024, 1, 10)), table_of(rows))
    return made


def file_of(folder, text, name="mine.py"):
    path = folder / name
    path.write_text("import sys\nimport backtrader as bt\n" + textwrap.dedent(text))
    return str(path)


def told(strategy, store, **asked):
    """Return the text of the StrategyError that a run ends with."""
    with pytest.raises(StrategyError) as raised:
        run(strategy, "AAPL/1day", store=store, **asked)
    return str(raised.value)


RAISED = [
    ("sys.exit()", "SystemExit"),
    ("sys.exit(3)", "SystemExit: 3"),
    ("raise SystemExit('bye')", "SystemExit: bye"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("raise StopIteration(1)", "StopIteration: 1"),
    ("raise BaseException('odd')", "BaseException: odd"),
    ("raise type('Own', (BaseException,), {})('mine')", "Own: mine"),
    ("raise ExceptionGroup('both', [ValueError('a'), KeyError('b')])", "ValueError: a; KeyError: 'b'"),
    ("raise BaseExceptionGroup('all', [SystemExit(1)])", "SystemExit: 1"),
]


@pytest.mark.parametrize(("line", "what"), RAISED)
def test_whatever_a_strategy_raises_is_its_error_with_file_line_and_what(tmp_path, store, line, what):
    path = file_of(tmp_path, f"class S(bt.Strategy):\n    def next(self):\n        {line}\n")

    text = told(path, store)

    assert text.startswith("mine.py:S failed in next() at line 5 of mine.py: ")
    assert what in text


@pytest.mark.parametrize(("line", "what"), RAISED)
def test_whatever_a_file_raises_while_it_is_loaded_is_its_error(tmp_path, line, what):
    path, before = file_of(tmp_path, f"{line}\nclass S(bt.Strategy): pass\n"), set(sys.modules)

    with pytest.raises(StrategyError, match=r"mine\.py cannot be loaded: .* at line 3") as raised:
        load_strategy(path)

    assert what.partition(": ")[2] in str(raised.value)
    assert set(sys.modules) == before


PLACES = {
    "__init__": "class S(bt.Strategy):\n    def __init__(self): sys.exit()",
    "start": "class S(bt.Strategy):\n    def start(self): sys.exit()",
    "prenext": "class S(bt.Strategy):\n    def __init__(self): bt.ind.SMA(period=3)\n    def prenext(self): sys.exit()",
    "nextstart": "class S(bt.Strategy):\n    def nextstart(self): sys.exit()",
    "stop": "class S(bt.Strategy):\n    def stop(self): sys.exit()",
    "notify_order": "class S(bt.Strategy):\n    def next(self): self.buy()\n    def notify_order(self, _): sys.exit()",
    "notify_trade": "class S(bt.Strategy):\n    def next(self): self.buy()\n    def notify_trade(self, _): sys.exit()",
    "notify_cashvalue": "class S(bt.Strategy):\n    def notify_cashvalue(self, cash, value): sys.exit()",
    "notify_fund": "class S(bt.Strategy):\n    def notify_fund(self, *_): sys.exit()",
    "notify_timer": (
        "class S(bt.Strategy):\n    def __init__(self): self.add_timer(bt.timer.SESSION_START)\n"
        "    def notify_timer(self, *_, **__): sys.exit()"
    ),
    "once": (
        "class I(bt.Indicator):\n    lines = ('x',)\n    def once(self, start, end): sys.exit()\n"
        "class S(bt.Strategy):\n    def __init__(self): I()"
    ),
    "_getsizing": (
        "class Z(bt.Sizer):\n    def _getsizing(self, *_): sys.exit()\n"
        "class S(bt.Strategy):\n    def __init__(self): self.setsizer(Z())\n    def next(self): self.buy()"
    ),
    "_getcommission": (
        "class C(bt.CommInfoBase):\n    def _getcommission(self, *_, **__): sys.exit()\n"
        "class S(bt.Strategy):\n    def __init__(self): self.broker.addcommissioninfo(C(), name='AAPL/1day')\n"
        "    def next(self): self.buy()"
    ),
    "look": (
        "class A(bt.Analyzer):\n    def look(self): sys.exit()\n    def next(self): self.look()\n"
        "class S(bt.Strategy):\n    def __init__(self): self._addanalyzer(A)"
    ),
    "notes": "class S(bt.Strategy):\n    @property\n    def notes(self): sys.exit()",
    "imported": "class S(bt.Strategy):\n    def next(self): imported()\ndef imported(): exit()",
}


@pytest.mark.parametrize(("function", "text"), PLACES.items(), ids=PLACES)
def test_wherever_others_code_ends_python_the_function_is_named(tmp_path, store, function, text):
    assert f"in {function}() at line " in told(file_of(tmp_path, text), store)


def test_a_commission_that_ends_python_is_an_error_of_the_strategy(store):
    class Ends(bt.CommInfoBase):
        def __init__(self):
            sys.exit()

    class Uncopied(bt.CommInfoBase):
        def __copy__(self):
            raise GeneratorExit

    assert "__init__() at line" in told("buy_and_hold", store, costs=Ends)
    assert "__copy__() at line" in told("buy_and_hold", store, costs=Uncopied())


def test_a_label_that_ends_python_is_noted_and_nothing_else(tmp_path, store):
    text = """
    class I(bt.Indicator):
        lines = ("x",)
        def _plotlabel(self): sys.exit()
        def next(self): self.lines.x[0] = 1
    class S(bt.Strategy):
        def __init__(self): I()
    """

    result = run(file_of(tmp_path, text), "AAPL/1day", store=store)

    assert "SystemExit" in result.lines.plots[0].problem


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        ("def __str__(self): raise ValueError('no text')", "whose text cannot be shown: its __str__ raised ValueError"),
        ("def __str__(self): sys.exit()", "its __str__ raised SystemExit"),
        ("def __str__(self): return 3", "its __str__ raised TypeError"),
        ("def __str__(self): return 'x' * 500_000", "xxx... (500,000 characters)"),
        ("def __repr__(self): raise ValueError", "Odd"),
        (r"def __str__(self): return 'half \ud800 pair'", r"half \ud800 pair"),
    ],
)
def test_an_error_whose_text_is_odd_is_told_all_the_same(tmp_path, store, made, shown):
    path = file_of(
        tmp_path,
        f"class Odd(Exception):\n    {made}\nclass S(bt.Strategy):\n    def next(self):\n        raise Odd\n",
    )

    text = told(path, store)

    assert "in next() at line 7 of mine.py: Odd" in text
    assert shown in text
    assert len(text) < 900
    text.encode()


def test_a_method_that_is_not_pythons_own_code_may_end_python_too(tmp_path, store):
    assert "SystemExit" in told(file_of(tmp_path, "class S(bt.Strategy):\n    next = staticmethod(sys.exit)\n"), store)


def test_a_proxy_beside_the_strategy_is_left_alone(tmp_path):
    text = """
    class Proxy:
        @property
        def __class__(self): raise RuntimeError("nothing is bound")
    proxy = Proxy()
    class S(bt.Strategy): pass
    """

    assert load_strategy(file_of(tmp_path, text)).cls.__name__ == "S"


@pytest.mark.parametrize("name", ["__class__", "__cause__", "exceptions"])
def test_an_error_whose_own_attributes_raise_is_told_all_the_same(tmp_path, store, name):
    text = f"""
    class Kind(type):
        @property
        def __name__(cls): raise ValueError
    class Odd(BaseException, metaclass=Kind):
        @property
        def {name}(self): sys.exit()
    class S(bt.Strategy):
        def next(self): raise Odd
    """

    assert "Odd" in told(file_of(tmp_path, text) + ":S", store)


def test_an_error_in_a_base_class_or_a_helper_of_another_file_has_that_file_and_line(tmp_path, store):
    file_of(
        tmp_path,
        "class Base(bt.Strategy):\n    def next(self):\n        self.decide()\n    def decide(self):\n        1 / 0\n",
        "base_of_failures.py",
    )
    path = file_of(tmp_path, "from base_of_failures import Base\nclass S(Base): pass\n")

    assert "in decide() at line 7 of base_of_failures.py: ZeroDivisionError" in told(path, store)


@pytest.mark.parametrize(
    ("helper", "where"),
    [("x = 1\n1 / 0\n", "ZeroDivisionError at line 4 of"), ("def broken(:\n", "SyntaxError at line 3 of")],
)
def test_a_helper_that_cannot_be_imported_is_named_with_its_own_line(tmp_path, helper, where):
    name = f"helper_{len(helper)}"
    file_of(tmp_path, helper, f"{name}.py")
    path = file_of(tmp_path, f"\n\n\nimport {name}\nclass S(bt.Strategy): pass\n")

    with pytest.raises(StrategyError, match=rf"mine\.py cannot be loaded: {where} {name}\.py"):
        load_strategy(path)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("class S(bt.Strategy):\n    def notify_order(self): pass\n    def next(self): self.buy()", "notify_order"),
        ("class S(bt.Strategy):\n    def next(self, bar): pass", "next"),
        ("class S(bt.Strategy):\n    def __init__(self, a): pass", "__init__"),
        ("class Base(bt.Strategy):\n    def stop(self, a): pass\nclass S(Base): pass", "stop"),
        (
            "class C(bt.CommInfoBase):\n    def _getcommission(self, size): return 0\nclass S(bt.Strategy):\n"
            "    def start(self): self.broker.addcommissioninfo(C(), name='AAPL/1day')\n    def next(self): self.buy()",
            "_getcommission",
        ),
    ],
)
def test_a_method_that_cannot_be_called_as_backtrader_does_has_its_line(tmp_path, store, text, function):
    assert f"in {function}() at line 4 of mine.py: TypeError" in told(file_of(tmp_path, text) + ":S", store)


def test_one_of_our_errors_that_the_strategy_itself_raises_is_the_strategys(tmp_path, store):
    text = "from backtest.errors import NoBars\nclass S(bt.Strategy):\n    def next(self): raise NoBars('mine')\n"

    assert "in next() at line 5 of mine.py: NoBars: mine" in told(file_of(tmp_path, text), store)
    with pytest.raises(NoBars):
        run("buy_and_hold", "MSFT/1day", store=store)


# --- Ctrl-C


class Interrupted(bt.Strategy):
    def next(self):
        signal.raise_signal(signal.SIGINT)


class Changes(bt.Strategy):
    def next(self):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(0)


@pytest.mark.parametrize("strategy", [Interrupted, Changes])
def test_ctrl_c_interrupts_whatever_the_strategy_makes_of_it(store, strategy):
    before = signal.getsignal(signal.SIGINT)

    with heeded(), pytest.raises(KeyboardInterrupt):
        run(strategy, "AAPL/1day", store=store)

    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_interrupts_a_sweep_and_is_no_failed_trial(store, tmp_path):
    with heeded(), pytest.raises(KeyboardInterrupt):
        sweep(Counting, "AAPL/1day", {"n": [1, 2]}, store=store, folder=tmp_path / "sweep")


class Counting(bt.Strategy):
    params = (("n", 1),)

    def next(self):
        if self.p.n == 2:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def heeded():
    """Heed Ctrl-C as Python does: a suite that was started with `&` inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_ends_the_command_with_130_and_no_traceback(tmp_path):
    body = "print('bar', flush=True)\n        time.sleep(60)"
    text = f"import time\nclass S(bt.Strategy):\n    def next(self):\n        {body}\n"
    command = [sys.executable, "-m", "backtest", "run", file_of(tmp_path, text), "AAPL/1day", f"--store={SAMPLE}"]

    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    assert first == "bar\n"
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_handler_of_ones_own_is_still_called_and_stays(store):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        run(Interrupted, "AAPL/1day", store=store)
        now = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert len(heard) == 10
    assert now.__name__ == "<lambda>"


def test_a_keyboard_interrupt_in_a_thread_comes_from_nobody(store):
    found = []

    class Raises(bt.Strategy):
        def next(self):
            raise KeyboardInterrupt

    def work():
        try:
            run(Raises, "AAPL/1day", store=store)
        except BaseException as error:  # noqa: BLE001 - what it is, is what is tested
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [type(error) for error in found] == [StrategyError]
    assert "which the code raised, and not Ctrl-C" in str(found[0])


def test_a_fault_of_this_package_alone_is_not_called_the_strategys():
    with pytest.raises(ZeroDivisionError), code_of_others(lambda error: ""):
        1 / 0  # noqa: B018


def test_an_error_without_a_text_is_its_name():
    assert said(ValueError()) == "ValueError"


# --- sentences that are true


def test_a_strategy_that_skips_itself_is_said_to(tmp_path, store):
    text = "class S(bt.Strategy):\n    def __init__(self):\n        raise bt.errors.StrategySkipError('not today')\n"

    shown = told(file_of(tmp_path, text), store)

    assert "raised StrategySkipError in __init__() at line 5 of mine.py: StrategySkipError: not today" in shown


def test_a_file_that_replaces_the_run_of_backtrader_is_said_to(tmp_path, store, monkeypatch):
    monkeypatch.setattr(bt.Cerebro, "run", bt.Cerebro.run)  # which is put back afterwards
    text = "bt.Cerebro.run = lambda *ignored, **more: []\n\nclass S(bt.Strategy):\n    pass\n"

    assert "did not run: Cerebro.run() returned [] in place of it" in told(file_of(tmp_path, text), store)


@pytest.mark.parametrize("where", ["__init__", "start"])
def test_a_run_that_is_stopped_before_its_first_bar_is_said_to_be(tmp_path, store, where):
    text = f"class S(bt.Strategy):\n    def {where}(self):\n        self.env.runstop()\n"

    assert f"before its first bar: it calls runstop() in {where}() at line 5 of mine.py" in told(
        file_of(tmp_path, text), store
    )


def test_a_run_that_is_stopped_in_next_keeps_the_bars_before(store):
    class Stops(bt.Strategy):
        def next(self):
            if len(self) == 4:
                self.env.runstop()

    assert len(run(Stops, "AAPL/1day", store=store).record) == 4


@pytest.mark.parametrize(
    "line", ["self.datas[1].close[0]", "datas = self.datas; datas[2]", "self.data1.close[0]", "self.data1_close[0]"]
)
@pytest.mark.parametrize("where", ["__init__", "next"])
def test_a_second_series_that_the_run_has_not_is_named_as_that(tmp_path, store, line, where):
    text = f"class S(bt.Strategy):\n    def {where}(self):\n        {line}\n"

    shown = told(file_of(tmp_path, text), store)

    assert f"in {where}() at line 5 of mine.py: " in shown
    assert "the run has 1 series, AAPL/1day; name as many as the strategy reads" in shown
    assert "further back" not in shown


@pytest.mark.parametrize(
    "line", ["datas = [1]; datas[9]", "object().data1", "data1", "self.data0_nothing", "self.p.data7"]
)
def test_what_is_called_like_a_feed_and_is_none_says_nothing_of_series(tmp_path, store, line):
    shown = told(file_of(tmp_path, f"class S(bt.Strategy):\n    def next(self):\n        {line}\n"), store)

    assert "the run has" not in shown
    assert shown.endswith("; fix it and run again")


def test_a_bar_after_the_present_one_is_said_to_be_read(store):
    class Ahead(bt.Strategy):
        def next(self):
            return self.data.close[1]

    shown = told(Ahead, store)

    assert "close[1] is the next bar, not known yet; close[0] is the current one, close[-1] the previous one" in shown
    assert "further back" not in shown


@pytest.mark.parametrize("line", ["[][1]", "'abc'[7]", "[1].pop(3)", "import numpy; numpy.zeros(2)[5]"])
def test_an_index_that_is_the_strategys_own_says_nothing_of_bars(tmp_path, store, line):
    shown = told(file_of(tmp_path, f"class S(bt.Strategy):\n    def next(self):\n        {line}\n"), store)

    assert "in next() at line 5 of mine.py: IndexError" in shown
    assert "further back" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "class S(bt.Strategy):\n    def __init__(self): bt.ind.SMA(period=50)",
        "class S(bt.Strategy):\n    def next(self): self.data.close[-5000]",
        "class I(bt.Indicator):\n    lines = ('x',)\n    def __init__(self): self.addminperiod(50)\n"
        "    def once(self, start, end):\n        for i in range(start, end): self.lines.x.array[i] = 1.0\n"
        "class S(bt.Strategy):\n    def __init__(self): I()",
    ],
)
def test_bars_that_run_out_are_said_to(tmp_path, store, text):
    assert "does it look further back than the 10 bars of the run?" in told(file_of(tmp_path, text), store)


@pytest.mark.parametrize("name", ["self", "strategy", "args", "kwargs", "feeds", "name"])
def test_a_parameter_may_have_any_name(tmp_path, store, name):
    text = f"class S(bt.Strategy):\n    params = dict({name}=1)\n    def next(self): assert self.p.{name} == 7\n"

    assert run(file_of(tmp_path, text), "AAPL/1day", store=store, params={name: 7}).spec.params == {name: 7}


def test_a_parameter_that_backtrader_cannot_be_given_keeps_its_default_or_is_refused(tmp_path, store):
    path = file_of(tmp_path, "class S(bt.Strategy):\n    params = dict(cls=1)\n")

    assert run(path, "AAPL/1day", store=store).spec.params == {"cls": 1}
    with pytest.raises(UsageError, match=r"a parameter 'cls'.*rename it"):
        run(path, "AAPL/1day", store=store, params={"cls": 2})


@pytest.mark.parametrize("call", ["buy(exectype=99)", "sell(exectype='Limit')", "buy(None, 1, None, None, -1)"])
def test_an_order_of_a_kind_that_there_is_not_is_refused_where_it_is_given(tmp_path, store, call):
    shown = told(file_of(tmp_path, f"class S(bt.Strategy):\n    def next(self):\n        self.{call}\n"), store)

    assert "in next() at line 5 of mine.py: ValueError: exectype=" in shown
    assert "bt.Order.Market, bt.Order.Close, bt.Order.Limit" in shown


def test_an_order_of_such_a_kind_that_went_round_the_strategy_is_refused_too(store):
    class Around(bt.Strategy):
        def next(self):
            self.broker.buy(self, self.data, 1, exectype=99)

    assert "exectype=99 is not an order type" in told(Around, store)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("bt.Strategy = None", "backtrader.Strategy by None"),
        ("del bt.Order", "backtrader.Order by None"),
        ("bt.num2date = 3", "backtrader.num2date by an object of type int"),
        ("bt.ind.SMA = None", "backtrader.indicators.SMA by None"),
    ],
)
@pytest.mark.parametrize("where", ["file", "next"])
def test_backtraders_names_are_put_back_and_the_strategy_that_broke_them_is_named(tmp_path, store, line, name, where):
    body = f"class S(bt.Strategy):\n    def next(self):\n        {line if where == 'next' else 'pass'}\n"
    path = file_of(tmp_path, body + (line if where == "file" else ""))

    assert f"replaced {name}" in told(path, store)
    run("buy_and_hold", "AAPL/1day", store=store)


def test_a_subclass_in_the_place_of_backtraders_own_stays(tmp_path, store):
    text = "class Own(bt.Strategy): pass\nbt.Strategy = Own\nclass S(bt.Strategy): pass\n"
    stock = bt.Strategy
    try:
        run(file_of(tmp_path, text) + ":S", "AAPL/1day", store=store)
        assert bt.Strategy is not stock
    finally:
        bt.Strategy = stock


def test_a_sizer_of_ones_own_beside_size_is_refused_in_words(store):
    class Own(bt.Strategy):
        def start(self):
            self.setsizer(bt.sizers.FixedSize(stake=3))

        def next(self):
            self.buy()

    with pytest.raises(UsageError, match="the requested size had no effect"):
        run(Own, "AAPL/1day", store=store, size=10)


# --- where a strategy fails, all else goes on


class Half(bt.Strategy):
    """Ends Python with one of its parameters."""

    params = (("n", 1),)

    def next(self):
        if self.p.n == 2:
            sys.exit(0)
        if len(self) % 2:
            self.buy(size=self.p.n)
        else:
            self.sell(size=self.p.n)


def test_other_trials_go_on_where_one_ends_python(store, tmp_path):
    found = sweep(Half, "AAPL/1day", {"n": [1, 2, 3]}, store=store, folder=tmp_path / "sweep", rank="total_return")

    assert [bool(trial.error) for trial in found.trials] == [False, True, False]
    assert "SystemExit: 0" in found.failed[0].error


@pytest.mark.slow
def test_a_walk_forward_and_a_cross_validation_choose_from_the_other_points(store, tmp_path):
    asked = {"store": store, "rank": "total_return"}

    steps = walk_forward(Half, "AAPL/1day", {"n": [1, 2]}, train=4, test=3, folder=tmp_path / "wf", **asked).steps
    folds = cross_validate(Half, "AAPL/1day", {"n": [1, 2]}, groups=3, tested=1, folder=tmp_path / "cv", **asked)

    assert {step.params["n"] for step in steps} == {1}
    assert folds.failed == 1


@pytest.fixture
def kept(tmp_path, call, monkeypatch):
    """Keep two baselines in a folder of its own, the first of which ends Python from then on."""
    monkeypatch.chdir(tmp_path)
    honest = "class S(bt.Strategy):\n    def next(self):\n        if len(self) == 5: self.buy(size=10)\n"
    for name in ("first", "second"):
        file_of(tmp_path, honest, f"{name}.py")
        words = ("--since", "2004-01-02", "--until", "2004-03-31", "--store", SAMPLE, "--out", f"runs/{name}")
        assert call("run", f"{name}.py", "AAPL/1day", *words)[0] == 0
        assert call("baseline", "save", name, "--store", SAMPLE)[0] == 0
    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "line"), [("next", "sys.exit()"), ("file", "quit()"), ("next", "bt.Strategy = None")]
)
def test_baseline_check_looks_at_the_others_where_a_strategy_ends_python(tmp_path, kept, line, where):
    body = "pass" if where == "file" else line
    text = f"class S(bt.Strategy):\n    def next(self):\n        {body}\n" + (line if where == "file" else "")
    file_of(tmp_path, text, "first.py")
    file_of(
        tmp_path,
        "class S(bt.Strategy):\n    def next(self):\n        if len(self) == 5: self.buy(size=9)\n",
        "second.py",
    )

    code, out, _ = kept("baseline", "check", "--store", SAMPLE)

    assert code == 1
    assert "first: failed" in out
    assert "second: moved" in out
    assert kept("run", "first.py", "AAPL/1day", "--store", SAMPLE)[0] == 5
    assert kept("reproduce", "first", "--store", SAMPLE)[0] == 1


@pytest.mark.slow
def test_a_check_of_the_pytest_plugin_fails_and_the_next_test_runs(tmp_path):
    file_of(tmp_path, "class S(bt.Strategy):\n    def next(self): sys.exit()\n", "first.py")
    file_of(tmp_path, "class S(bt.Strategy):\n    params = dict(strategy=1)\n", "second.py")
    (tmp_path / "test_them.py").write_text(
        "def test_first(backtest_regression):\n    backtest_regression.check('first.py', 'AAPL/1day')\n"
        "def test_second(backtest_regression):\n    backtest_regression.check('second.py', 'AAPL/1day', strategy=2)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--backtest-store={SAMPLE}"]
    subprocess.run([*command, "--backtest-accept"], cwd=tmp_path, capture_output=True, check=False)

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "1 failed, 1 passed" in done.stdout
    assert "first.py:S failed in next() at line 4 of first.py: SystemExit" in done.stdout
