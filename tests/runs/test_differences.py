import dataclasses

from handmade import result_of

from backtest.runs.differences import differences, seen_of

SHA = {"strategy": {"name": "trend.py:Trend", "sha256": "a"}}


def apart(*runs):
    """Return what tells runs apart, in words."""
    return [one.words for one in differences([(run.spec, seen_of(run.manifest)) for run in runs])]


def test_runs_of_a_strategy_are_told_apart_by_the_parameters_that_differ():
    first = result_of([100.0], params={"fast": 10, "slow": 50, "size": 1})
    second = result_of([100.0], params={"fast": 20, "slow": 50, "size": 2})

    assert apart(first, second) == ["fast=10, size=1", "fast=20, size=2"]


def test_runs_are_told_apart_by_options_as_the_command_line_spells_them():
    first = result_of([100.0], since="2024-01-02", risk_free=0.02)
    second = result_of([100.0], slippage="5bp", volume_cap=0.1)

    assert apart(first, second) == [
        "--since 2024-01-02, --risk-free 0.02",
        "--slippage 5bp, --volume-cap 0.1",
    ]


def test_the_pinned_days_of_daily_bars_are_shown_as_the_first_and_the_last_session():
    pinned = {"since": "2000-03-01T00:00:00+00:00", "until": "2013-03-02T00:00:00+00:00"}
    early = {**pinned, "until": "2013-03-01T14:30:00+00:00"}

    shown = apart(result_of([100.0], **pinned), result_of([100.0], **early), result_of([100.0]))

    assert shown == [
        "--since 2000-03-01, --until 2013-03-01",
        "--since 2000-03-01T00:00:00+00:00, --until 2013-03-01T14:30:00+00:00",
        "",
    ]
    assert apart(*(result_of([100.0], series=("AAPL/1min",), **one) for one in (pinned, {})))[0] == (
        "--since 2000-03-01T00:00:00+00:00, --until 2013-03-02T00:00:00+00:00"
    )


def test_other_strategies_have_other_parameters_and_are_not_compared():
    first = result_of([100.0], strategy="a.py:First", params={"fast": 10})
    second = result_of([100.0], strategy="a.py:Second", params={"fast": 20})

    assert apart(first, second) == ["", ""]


def test_a_parameter_that_one_version_of_a_strategy_lacks_differs():
    first, second = result_of([100.0], params={"fast": 10}), result_of([100.0], params={"fast": 10, "stop": 0.1})

    assert apart(first, second) == ["", "stop=0.1"]


def test_strategies_of_one_name_in_two_files_are_told_apart_by_the_file():
    first, second = (result_of([100.0], strategy=f"{file}.py:Trend") for file in ("old", "new"))

    assert apart(first, second) == ["file old.py", "file new.py"]


def test_runs_that_were_asked_the_same_are_told_apart_by_code_or_by_bars():
    first = result_of([100.0], manifest={**SHA, "series": {"AAPL": {"bars": 1}}})
    edited = dataclasses.replace(first, manifest={**first.manifest, "strategy": {"sha256": "b"}})
    revised = dataclasses.replace(first, manifest={**first.manifest, "series": {"AAPL": {"bars": 2}}})

    for other, what in ((edited, "code"), (revised, "bars")):
        one, two = apart(first, other)
        assert (one.split()[0], two.split()[0]) == (what, what)
        assert one != two


def test_code_is_not_told_where_what_was_asked_differs():
    first = result_of([100.0], manifest=SHA, params={"fast": 1})
    second = result_of([100.0], manifest={"strategy": {"sha256": "b"}}, params={"fast": 2})

    assert apart(first, second) == ["fast=1", "fast=2"]


def test_the_document_has_parameters_in_their_kept_form():
    first, second = (result_of([100.0], params={"pair": pair}) for pair in ((5, 20), (10, 50)))

    found = differences([(run.spec, seen_of(run.manifest)) for run in (first, second)])

    assert found[0].to_dict() == {"pair": {"$tuple": [5, 20]}}
