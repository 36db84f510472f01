"""Tests of flows.experiments.kept_runs."""

from flows.experiments.kept_runs import KeptRun


def test_a_kept_run_of_something_else_is_not_gone_on_from(tmp_path):
    place = tmp_path / "run.pt"
    KeptRun(place, "full, seed 0").save({"iteration": 3})
    assert KeptRun(place, "full, seed 0").load() == {"iteration": 3}
    assert KeptRun(place, "full, seed 1").load() is None
    assert KeptRun(None, "full, seed 0").load() is None
