"""What a reader wants to know of a run, in at most three actions on its page; `tests/soak/tasks.py` has more pages."""

import browser
import pytest
import tasks
from task_checks import check_loss, check_month, check_trade

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)]

TASKS = {"trade": (tasks.worst_trade, check_trade), "month": (tasks.worst_month, check_month),
         "loss": (tasks.lost_most, check_loss)}  # fmt: skip


@pytest.fixture(scope="module")
def hand(tab, long_page):
    hand = tasks.Hand(tab)
    hand.open(long_page, ".chart")
    return hand


@pytest.mark.parametrize("name", TASKS)
def test_a_question_is_answered_in_three_actions(hand, long_run, name):
    do, check = TASKS[name]
    hand.actions = 0

    seen = do(hand)

    assert hand.actions <= 3
    check(long_run, seen)
