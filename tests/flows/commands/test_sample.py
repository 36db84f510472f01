"""Tests of daphne-flows sample against the exact answer; files read by others."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import special, stats

from flows.cli import main
from flows.commands.sample import _left_out
from flows.inference.particles import Particles

from .pair import bad, check_answer, doubted, good


def sampled(run, out, *options):
    said = good(
        "sample", run / "artifact", run / "graph.json", "-o", out, "--json", *options
    )
    return json.loads(said)


def arrays_in(path):
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize("kind", ["flow", "prior", "mixture"])
def test_every_proposal_gives_the_exact_answer(run, tmp_path, kind):
    said = sampled(run, tmp_path / "p", "--proposal", kind, "--num-particles", 4000)
    check_answer(said)
    assert said["proposal"] == kind


def test_several_data_sets_have_their_own_answers(run, tmp_path):
    (tmp_path / "d.csv").write_text("observe3,observe4\n0.5,1.5\n2,3\n")
    out = tmp_path / "p"
    options = ("--observations", tmp_path / "d.csv", "--num-particles", 3000)
    said = sampled(run, out, *options)
    check_answer(said["data_sets"][0])
    check_answer(said["data_sets"][1], 2.0, 3.0)
    assert Particles.load(out / "particles-2.npz").num_particles == 3000


def test_what_data_sets_leave_out_is_said_and_named(run, tmp_path):
    """The program's own data are x = 0.5 and y = 1.5."""
    rows = tmp_path / "d.json"
    rows.write_text('[{"observe3": 2, "observe4": 3}, {"observe3": 2}, {}]')
    asked = [
        "sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p", "--json",
        "--num-particles", 3000, "--observations",
    ]  # fmt: skip
    call = CliRunner().invoke(main, [*map(str, asked), str(rows)])
    assert (
        f"{rows}: observe4 left out of 2 of 3 data sets, observe3 of 1: there the "
        "program's own data count\n"
    ) in call.stderr
    found = json.loads(call.stdout)["data_sets"]
    left_out = [[], ["observe4"], ["observe3", "observe4"]]
    assert [each["kept"] for each in found] == left_out
    check_answer(found[1], 2.0, 1.5)
    rows.write_text('[{"observe3": 2, "observe4": 3}]')
    call = CliRunner().invoke(main, [*map(str, asked), str(rows)])
    assert (call.exit_code, "left out" in call.stderr) == (0, False)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([["y", "v"], ["y", "v", "x"]], "y, v left out of 2 of 2 data sets, x of 1: "),
        ([["y"], []], "y left out of 1 of 2 data sets: "),
        (
            [list("abcde"[:number]) for number in range(6)],
            "a left out of 5 of 6 data sets, b of 4, c of 3, d, e of fewer: ",
        ),
        (
            [[f"y[{number}]" for number in range(500)]] * 3,
            "y[0], y[1], y[2], y[3], y[4], y[5] and 494 more left out of 3 of 3 ",
        ),
    ],
)
def test_each_node_is_counted_where_data_sets_leave_it_out(kept, said):
    assert _left_out(kept).startswith(said)


def test_data_beside_a_number_too_large_to_compute_with_are_named(tmp_path):
    """The second covariate is; whose observation no slope explains then."""
    text = """(let [b (sample (normal 0 1))]
                (foreach 2 [x [1 1e300] y [0.5 0.7]] (observe (normal (* b x) 1) y))
                b)"""
    said = json.loads(
        doubted(
            "sample", "-", "-o", tmp_path / "p", "--proposal", "prior", "--json",
            input=text,
        )
    )  # fmt: skip
    found = [each["what"] for each in said["cautions"]]
    assert "no draw of the prior gives a density to observe2 = 0.7" in found


def test_drawing_stops_when_the_target_is_reached(run, tmp_path):
    said = sampled(
        run, tmp_path / "p", "--target-ess", 5000, "--num-particles", 10_000_000
    )
    assert said["ess"] >= 5000
    assert said["num_particles"] == 10_000


def test_two_workers_draw_what_one_draws(run, tmp_path):
    one = sampled(run, tmp_path / "a", "--num-particles", 20_000)
    two = sampled(run, tmp_path / "b", "--num-particles", 20_000, "--workers", 2)
    assert one == two
    names = [tmp_path / each / "particles.npz" for each in "ab"]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_unweighted_draws_are_those_of_the_flow(run, tmp_path):
    weighted = sampled(run, tmp_path / "a", "--num-particles", 12_000)
    said = sampled(run, tmp_path / "b", "--num-particles", 12_000, "--unweighted")
    one, two = (Particles.load(tmp_path / each / "particles.npz") for each in "ab")
    assert torch.equal(one.latents, two.latents)
    assert weighted["log_evidence"] is not None
    assert not two.log_weights.any()
    figures = ("log_evidence", "ess", "ess_fraction", "k_hat")
    assert [said[figure] for figure in figures] == [None] * 4
    for latent, column in zip(said["latents"], two.latents.T, strict=True):
        assert latent["mean"] == pytest.approx(float(column.mean()))
    assert "no weights" in said["cautions"][0]["what"]
    text = good(
        "sample", run / "artifact", run / "graph.json", "-o", tmp_path / "b",
        "--num-particles", 50, "--unweighted",
    )  # fmt: skip
    assert "these draws have no weights" in text


@pytest.mark.parametrize(
    "option",
    ["--proposal prior", "--target-ess 5", "--draws 5", "--format netcdf",
     "--workers 2"],
)  # fmt: skip
def test_what_needs_weights_is_refused_beside_unweighted(run, tmp_path, option):
    said = bad(
        "sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p",
        "--unweighted", *option.split(),
    )  # fmt: skip
    assert "--unweighted: stands beside --" in said
    assert not (tmp_path / "p").exists()


def test_figures_that_cannot_be_trusted_end_with_their_own_code(run, tmp_path):
    """Data 18 standard deviations from the prior's, by draws of the prior."""
    arguments = (
        "sample", run / "artifact", run / "graph.json", "-o", tmp_path / "particles",
        "--observe", "observe3=40", "--proposal", "prior", "--num-particles", 500,
    )  # fmt: skip
    said = json.loads(doubted(*arguments, "--json"))
    assert said["ok"] is False
    assert said == json.loads((tmp_path / "particles" / "summary.json").read_text())
    assert doubted(*arguments).startswith("these figures cannot be trusted")
    (tmp_path / "rows.csv").write_text("observe3,observe4\n0.5,1.5\n40,1.5\n")
    rows = (
        "sample", run / "artifact", run / "graph.json", "-o", tmp_path / "rows",
        "--observations", tmp_path / "rows.csv", "--num-particles", 500, "--json",
        "--proposal", "prior",
    )  # fmt: skip
    said = json.loads(doubted(*rows))
    assert said["ok"] is False
    assert said["data_sets"][1]["ok"] is False
    good(
        "evaluate", run / "artifact", run / "graph.json", "--num-draws", 200,
        "--num-data-sets", 20, "-o", tmp_path / "evaluation.json",
    )  # fmt: skip
    assert "these figures cannot be trusted" in doubted("summary", tmp_path)


def test_csv_json_and_draws_hold_the_particles(run, tmp_path):
    out = tmp_path / "p"
    sampled(
        run, out, "--num-particles", 500, "--format", "csv", "--format", "json",
        "--draws", 700,
    )  # fmt: skip
    arrays = arrays_in(out / "particles.npz")
    with (out / "particles.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name, key in (("sample1", "sample1"), ("log_weights", "log_weight")):
        found = [float(row[key]) for row in rows]
        np.testing.assert_array_equal(found, arrays[name])
    content = json.loads((out / "particles.json").read_text())
    np.testing.assert_array_equal(content["latents"]["sample2"], arrays["sample2"])
    np.testing.assert_array_equal(content["log_weights"], arrays["log_weights"])
    draws = arrays_in(out / "particles-draws.npz")
    assert draws["sample1"].shape == (700,)
    assert set(draws["sample1"]) <= set(arrays["sample1"])
    said = json.loads((out / "summary.json").read_text())
    assert said["num_draws"] == 700
    assert said["num_distinct_draws"] == len(set(draws["sample1"]))


def test_arviz_reads_what_netcdf_holds(run, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("arviz_base")
    pytest.importorskip("h5py")
    out = tmp_path / "p"
    sampled(run, out, "--num-particles", 500, "--format", "netcdf")
    arrays = arrays_in(out / "particles.npz")
    with xarray.open_datatree(out / "particles.nc", engine="h5netcdf") as tree:
        found = tree["posterior"]["sample1"].values
        np.testing.assert_array_equal(found, arrays["sample1"][None])
        weights = tree["sample_stats"]["log_weight"].values
        np.testing.assert_array_equal(weights, arrays["log_weights"][None])
        assert float(tree["observed_data"]["observe3"]) == 0.5
        assert tree["prior"]["sample1"].shape == (1, 500)


def test_data_that_do_not_fit_are_named_by_option_or_file_and_row(run, tmp_path):
    arguments = ("sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p")
    said = bad(*arguments, "--observe", "observe3=[1,2]")
    assert "\n--observe observe3=[1,2]: " in said
    assert "\n--observe who=1: no node is called who" in bad(
        *arguments, "--observe", "who=1"
    )
    assert "--observe sample1=1: sample1 is a latent" in bad(
        *arguments, "--observe", "sample1=1"
    )
    path = tmp_path / "d.json"
    path.write_text('[{"observe3": 1}, {"observe4": true}]')
    assert f"{path} row 2 observe4: " in bad(*arguments, "--observations", path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--target-ess", "nan"),
        ("--mixture-weight", "nan"),
        ("--num-particles", "1_000"),
        ("--num-particles", "999999999"),
        ("--seed", "1e3"),
        ("--target-ess", "1_0.5"),
    ],
)
def test_numbers_that_are_none_or_too_large_are_refused(run, tmp_path, option, value):
    place = tmp_path / "p"
    said = bad(
        "sample", run / "artifact", run / "graph.json", "-o", place, option, value
    )
    assert "Traceback" not in said
    assert not place.exists()


def test_places_that_cannot_be_written_are_refused_before_drawing(run, tmp_path):
    for command in ("sample", "smc", "diagnose", "evaluate"):
        for place in (tmp_path / ("n" * 300), "/proc/x", tmp_path / "none" / "p"):
            said = bad(command, run / "artifact", run / "graph.json", "-o", place)
            assert "cannot be written" in said or "does not exist" in said
            assert "%" not in said


def test_wrong_data_sets_are_refused(run, tmp_path):
    (tmp_path / "d.csv").write_text("nobody\n1\n")
    arguments = ("sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p")
    both = ("--observe", "observe3=1")
    said = bad(*arguments, "--observations", tmp_path / "d.csv")
    assert "no node is called nobody" in said
    said = bad(*arguments, "--observations", tmp_path / "d.csv", *both)
    assert "one of both" in said
    assert [each.name for each in tmp_path.iterdir()] == ["d.csv"]


def from_prior(tmp_path, program, *options):
    said = good(
        "sample", "-", "--proposal", "prior", "-o", tmp_path / "p", "--json", *options,
        input=program,
    )  # fmt: skip
    return json.loads(said)


def test_a_program_is_sampled_from_its_prior_without_an_artifact(tmp_path):
    said = from_prior(
        tmp_path, "(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)"
    )
    counts = np.arange(60)
    terms = stats.poisson(3).logpmf(counts) + stats.norm(counts, 1).logpdf(5)
    assert said["log_evidence"] == pytest.approx(special.logsumexp(terms), abs=1e-9)
    assert said["artifact"] is None
    assert said["ok"] is True


def test_a_program_without_data_is_sampled(tmp_path):
    said = from_prior(
        tmp_path, "(let [x (sample (normal 2 1)) k (sample (binomial 3 0.5))] (+ x k))"
    )
    means = [each["mean"] for each in said["latents"]]
    np.testing.assert_allclose(means, [2.0, 1.5], atol=0.05)
    assert said["log_evidence"] == 0.0
    assert said["return"]["mean"] == pytest.approx(3.5, abs=0.06)
    assert said["return"]["sd"] == pytest.approx(1.322876, abs=0.06)
    assert said["probabilities"]["k"]["3"] == pytest.approx(1 / 8, abs=0.02)


def test_draws_without_meaning_weigh_nothing_and_are_counted(tmp_path):
    said = from_prior(
        tmp_path, "(let [s (sample (normal 1 1))] (observe (normal 0 s) 1) s)"
    )
    error = said["log_evidence_standard_error"]
    assert abs(said["log_evidence"] + 1.968970) < 5 * error
    share = said["num_zero_weights"] / said["num_particles"]
    assert abs(share - stats.norm(1, 1).cdf(0)) < 0.02
    words = f"{said['num_zero_weights']} of 10000 draws give a distribution"
    assert said["cautions"][0]["what"].startswith(words)


def test_workers_draw_from_the_prior_what_one_draws(run, tmp_path):
    said = [
        json.loads(
            good(
                "sample", run / "graph.json", "--proposal", "prior", "--json",
                "-o", tmp_path / number, "--num-particles", 20_000,
                "--workers", number,
            )
        )
        for number in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]
    check_answer(said[0])


def test_without_an_artifact_only_the_prior_is_there(run, tmp_path):
    place = ("-o", tmp_path / "p")
    said = bad("sample", run / "graph.json", *place)
    assert "--proposal flow: draws of a flow need a trained one" in said
    said = bad("sample", run / "graph.json", *place, "--unweighted")
    assert "trained one" in said
    three = bad("sample", "a", "b", "c", *place)
    assert "takes one artifact and one model" in three


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the cluster's own sockets
def test_a_cluster_draws_what_this_process_draws(run, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = ("--num-particles", 20_000)
    one = sampled(run, tmp_path / "a", *options)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        two = sampled(run, tmp_path / "b", *options, "--cluster", address)
    assert one == two
    names = [tmp_path / each / "particles.npz" for each in "ab"]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_cluster_that_is_not_there_is_refused(run, tmp_path):
    pytest.importorskip("distributed")
    arguments = ("sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p")
    address = ("--cluster", "nonsense://x")
    assert "no scheduler answers" in bad(*arguments, *address)
    assert "one of both" in bad(*arguments, *address, "--workers", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupt_ends_all_workers_without_a_traceback(run, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable, "-m", "flows", "sample", run / "artifact",
            run / "graph.json", "-o", tmp_path / "p", "--workers", "2",
            "--num-particles", "10000000",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        # A test run in the background inherits interrupts that are ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    # Workers are starting now: the worst moment for a key that reaches all of them.
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.rstrip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_machine_can_do_is_refused_before_the_work(
    run, tmp_path, monkeypatch
):
    arguments = ("sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p")
    assert "--workers" in bad(*arguments, "--workers", 1025)
    monkeypatch.setattr(os, "sysconf", lambda _: 2**16)
    said = bad(*arguments, "--draws", 1_000_000_000)
    assert "--draws: this machine has no room for so many" in said
    assert not (tmp_path / "p").exists()
