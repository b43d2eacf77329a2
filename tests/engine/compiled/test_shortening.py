"""Code over all trials is shortened, and does the same."""

import numpy as np
import pytest

from backtest.engine.compiled.shortening import shortened

LEFT_OUT = [
    pytest.param(["v1 = (a + b)", "v2 = (a > b)", "return v1"], ["v1 = (a + b)", "return v1"], id="what nothing reads"),
    pytest.param(["v1 = (a + b)", "v2 = (v1 > b)", "return a"], ["return a"], id="what only such a thing reads"),
    pytest.param(["if a.size:", "    v1 = (a + b)", "return a"], ["if a.size:", "    pass", "return a"], id="a block"),
    pytest.param(["w_x[t] = a", "w_x[t] = b", "return w_x[t]"], ["w_x[t] = b", "return w_x[t]"], id="a store"),
    pytest.param(
        ["v1 = (a + b)", "v2 = v1.copy()", "copyto(v2, a, where=c)", "return v2"],
        ["v2 = (a + b)", "copyto(v2, a, where=c)", "return v2"],
        id="a copy",
    ),
]
LEFT_IN = [
    pytest.param(["v1 = (a + b)", "v2 = v1.copy()", "copyto(v2, a, where=c)", "return v1 - v2"], id="read afterwards"),
    pytest.param(["v1 = a", "v2 = v1.copy()", "copyto(v2, b, where=c)", "return v2"], id="the caller's"),
    pytest.param(
        ["v1 = (a + b)", "v3 = v1[:]", "v2 = v1.copy()", "copyto(v2, a, where=c)", "return v2 + v3"], id="a part of it"
    ),
    pytest.param(
        ["v1 = (a + b)", "n = 0", "while n < 2:", "    v2 = v1.copy()", "    copyto(v2, a, where=c)", "    a = a + v2",
         "    n = n + 1", "return a"], id="in a loop"
    ),
    pytest.param(["w_x[t] = a", "v1 = w_x[t]", "w_x[t] = b", "return v1 + w_x[t]"], id="stored, read and stored"),
    pytest.param(["w_x[t] = a", "if c.all():", "    w_x[t] = b", "return w_x[t]"], id="stored in a block"),
    pytest.param(["w_x[t] = a", "w_x[u] = b", "return w_x"], id="stored of other trials"),
    pytest.param(["v1 = flagged(seen)", "return a"], id="a call"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "shorter"), LEFT_OUT)
def test_what_is_for_nothing_is_left_out(lines, shorter):
    assert shortened(lines) == shorter
    assert results(lines) == results(shorter)


@pytest.mark.parametrize("lines", LEFT_IN)
def test_what_something_reads_stays(lines):
    assert shortened(lines) == lines


def results(lines):
    body = "\n".join(f"    {line}" for line in lines)
    names = {"copyto": np.copyto}
    exec(f"def made(a, b, c, t, w_x):\n{body}", names)
    found = names["made"](np.arange(4.0), np.ones(4), np.arange(4) > 1, np.arange(4), np.zeros(4))
    return found.tolist()
