"""How log records look on stderr, as text and as JSON."""

import json
import logging
from datetime import datetime

import pytest

from backtest.cli.progress import start_logging
from backtest.errors import NoData
from backtest.market.series import Series


@pytest.fixture
def logger():
    """Yield the package's logger, and leave it as it was."""
    log = logging.getLogger("backtest")
    before = (log.handlers, log.level, log.propagate)
    yield log
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


FIELDS = {"series": "AAPL-STK-SMART-USD/1day/TRADES/rth", "request": 7, "reason": NoData("a bar has\nno close")}


def test_a_line_of_text_names_series_reason_and_request(logger, capsys):
    start_logging("text")
    logger.warning("invalid answer", extra=FIELDS)

    assert capsys.readouterr().err == (
        "invalid answer: series AAPL-STK-SMART-USD/1day/TRADES/rth, request 7, reason a bar has no close\n"
    )


def test_a_line_of_text_without_fields_is_its_message(logger, capsys):
    start_logging("text")
    logger.warning("stopping after the requests in hand")

    assert capsys.readouterr().err == "stopping after the requests in hand\n"


def test_what_a_stranger_wrote_moves_no_cursor(logger, capsys):
    start_logging("text")
    logger.warning("gateway says", extra={"text": "\x1b[2Jgone"})

    assert capsys.readouterr().err == "gateway says: text \\x1b[2Jgone\n"


def test_a_json_line_has_the_same_fields_and_a_time_with_its_zone(logger, capsys):
    start_logging("json")
    logger.warning("invalid answer", extra=FIELDS)

    record = json.loads(capsys.readouterr().err)
    assert (record["series"], record["request"], record["reason"]) == (FIELDS["series"], 7, "a bar has\nno close")
    assert datetime.fromisoformat(record["time"]).utcoffset() is not None


@pytest.mark.slow
def test_a_download_tells_in_text_which_answer_of_which_series_cannot_be_true(call, logger, tmp_path):
    """A folder's bar on a Sunday breaks the rules of a bar, and is asked for twice."""
    (tmp_path / "csv").mkdir()
    rows = "Date,Open,High,Low,Close\n2024-01-05,1,1,1,1\n2024-01-07,1,1,1,1\n2024-01-08,1,1,1,1\n"
    (tmp_path / "csv" / "AAPL_1day.csv").write_text(rows)
    words = ("download", "AAPL/1day", "--since", "2024-01-05", "--until", "2024-01-08", "--store", tmp_path / "bars")

    code, _, err = call(*words, "--source", f"csv:{tmp_path / 'csv'}")

    lines = [line for line in err.splitlines() if line.startswith("invalid answer: ")]
    assert code == 3
    assert len(lines) == 2
    assert all(f"series {Series.parse('AAPL/1day')}, window 2024-01-05 to before" in line for line in lines)
    assert ["request 1" in line for line in lines] == [True, False]
    assert ["request 2" in line for line in lines] == [False, True]
    assert all("reason " in line for line in lines)
