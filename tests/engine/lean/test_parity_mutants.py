"""The lean loop with one thing wrong, in many ways: a random case or an aimed one tells each from Backtrader."""

from functools import cache
from itertools import chain

import backtrader as bt
import pytest
from parity_aimed import AIMED
from parity_check import Cerebro, difference, difference_of, outcome
from parity_lean_mutants import MUTANTS, edited, mutant
from parity_random import case

TRIED = range(60)  # `make soak` tries more, without the aimed ones

stock = cache(lambda seed: outcome(case(seed), bt.Cerebro))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_lean_loop_is_told(name):
    wrong = mutant(name)
    aimed = [difference(AIMED[name], wrong)] if name in AIMED else []

    assert any(chain(aimed, (difference_of(stock(seed), outcome(case(seed), wrong)) for seed in TRIED)))


@pytest.mark.slow
def test_the_right_one_is_not_told_by_what_is_aimed_at_wrong_ones():
    assert {name: text for name, build in AIMED.items() if (text := difference(build, Cerebro))} == {}


@pytest.mark.slow
def test_there_are_forty_mutants_and_each_changes_a_text_that_is_there():
    loops = {mutant(name) for name in MUTANTS}

    assert len(loops - {Cerebro}) == len(MUTANTS) >= 40


def test_a_loop_in_which_the_strategy_moves_too_early_is_told_and_the_right_one_is_not():
    name = "the strategy moves before late indicators"

    assert difference(AIMED[name], mutant(name))
    assert not difference(AIMED[name], Cerebro)


def test_a_mutant_of_a_text_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="0 times 'no such text'"):
        edited("mutated_lean_of_nothing", (("cerebro", "no such text", ""),))
