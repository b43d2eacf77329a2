"""The scripts of tests/reliability and tests/benchmarks at the size of CI; run them by hand for larger ones."""

import downloads
import killed_downloads


def test_a_killed_download_loses_nothing_and_ends_the_same(tmp_path):
    kills, finished, _ = killed_downloads.run(tmp_path, kills=4, seed=1)

    assert kills == 4
    assert finished >= 1


def test_requests_are_the_fewest_and_no_limit_is_broken(tmp_path):
    rows = dict([*downloads.minutes(tmp_path / "minutes", 1), *downloads.daily(tmp_path / "daily", 5, 20)])

    assert [value.split(" = ")[-1] for job, value in rows.items() if "lower bound" in job and "missing" not in job] == [
        "1.000"
    ] * 2
    assert [value for job, value in rows.items() if "second run" in job] == ["0", "0"]
    assert all(value.startswith("0") for job, value in rows.items() if "violations" in job)
