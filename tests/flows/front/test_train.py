"""Tests of flows.front.train and flows.front.run_folder."""

import json
import re
from dataclasses import replace

import pytest
import torch

import flows
from flows.front.train import settings_for
from flows.training import certification

from .conftest import QUICK


def parameters(posterior):
    return torch.cat([p.flatten() for p in posterior.flow.state_dict().values()])


class Stop(Exception):
    """What a user's own function raises."""


def test_equal_seeds_give_equal_flows_and_leave_the_global_state(model, posterior):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = flows.train(model, config=QUICK, engine="torch")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(parameters(again), parameters(posterior))
    other = flows.train(model, config=QUICK, engine="torch", seed=1)
    assert not torch.equal(parameters(other), parameters(posterior))


def test_reports_come_as_training_goes_and_metrics_in_the_end(model):
    reports = []
    found = flows.train(
        model, config=QUICK, engine="torch", augment=0, on_report=reports.append
    )
    assert [r.iteration for r in reports][-1] == found.metrics["iterations"] == 60
    assert abs(found.metrics["best_j"]) < 0.1
    assert found.flow.structure.nuisance_dim == 0


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    model, posterior, tmp_path
):
    folder = tmp_path / "run"

    def stop(report):
        if report.iteration >= 20:
            raise Stop

    with pytest.raises(Stop):
        flows.train(
            model, config=QUICK, engine="torch", checkpoint=folder, on_report=stop
        )
    assert {p.name for p in folder.iterdir()} == {
        "checkpoint.safetensors",
        "config.toml",
        "log.jsonl",
    }
    with (
        pytest.warns(UserWarning, match="run in it will be replaced; resume=True goes"),
        pytest.raises(Stop),
    ):
        flows.train(
            model, config=QUICK, engine="torch", checkpoint=folder, on_report=stop
        )
    seen = []
    resumed = flows.train(
        model,
        config=folder / "config.toml",
        engine="torch",
        checkpoint=str(folder),
        resume=True,
        on_report=seen.append,
    )
    assert seen[0].iteration >= 20
    assert torch.equal(parameters(resumed), parameters(posterior))
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in log][-1] == 60


@pytest.mark.parametrize("missing", ["context", "forms", "log_beyond"])
def test_a_run_of_an_earlier_version_goes_on_without_what_is_new(tmp_path, missing):
    """It wrote less into its configuration."""
    seen = "".join(f" (observe (normal (* m {k}) 2) {k})" for k in range(1, 7))
    program = f"(let [m (sample (normal 0 1)) s (sample (gamma 2 2))]{seen} [m s])"
    model = flows.Model.from_program(program)
    flow = {"hidden": 4, "layers": 1, missing: 0}
    settings = {**QUICK, "kind": "autoregressive", "integrate": "none", "flow": flow}

    def stop(report):
        if report.iteration >= 20:
            raise Stop

    where = {"engine": "torch", "checkpoint": tmp_path / "run"}
    with pytest.raises(Stop):
        flows.train(model, config=settings, on_report=stop, **where)
    kept = tmp_path / "run" / "config.toml"
    text = kept.read_text()
    kept.write_text(re.sub(rf"^{missing} = 0(\.0)?\n", "", text, flags=re.MULTILINE))
    assert kept.read_text() != text
    found = flows.train(model, resume=True, **where)
    assert found.metrics["iterations"] == QUICK["max_iterations"]
    assert getattr(found.flow.config, missing) == 0


def test_a_log_is_continued_from_what_can_be_read_of_it(model, tmp_path):
    def train(**options):
        return flows.train(
            model, config=QUICK, engine="torch", checkpoint=tmp_path / "run", **options
        )

    train()
    log = tmp_path / "run" / "log.jsonl"
    first = log.read_bytes().splitlines()[0]
    log.write_bytes(first + b"\n" + b"[" * 100_000 + b"\n\xff\xfe{}\n")
    train(resume=True)
    lines = log.read_bytes().splitlines()
    assert lines[0] == first
    assert all(json.loads(each) for each in lines)
    log.unlink()
    log.mkdir()
    with pytest.raises(flows.FlowsError, match=r"log\.jsonl: this is no plain file"):
        train(resume=True)
    log.rmdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(flows.FlowsError, match="train without --resume"):
        train(resume=True)
    with pytest.warns(UserWarning, match="run in it, which is damaged, will be repl"):
        train(resume=False)
    assert [*tmp_path.iterdir()] == [tmp_path / "run"]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"budget": "soon"}, "budget"),
        ({"config": {"batch": 3}}, "the configuration, batch"),
        ({"device": "tpu"}, "device"),
        ({"engine": "steam"}, "engine"),
        ({"config": {"augment": {"z9": 1}}}, "augment, z9"),
    ],
)
def test_a_wrong_argument_is_named_before_any_work(model, arguments, where, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(flows.FlowsError) as caught:
        flows.train(model, checkpoint=folder, **arguments)
    assert caught.value.problems[0].where == where
    assert not folder.exists()


def test_a_model_without_data_or_with_discrete_latents_is_refused(model):
    nodes = model.graph.nodes
    unseen = flows.Graph(tuple(n for n in nodes if not n.is_observed), source="u.json")
    with pytest.raises(
        flows.FlowsError, match=r"u\.json: the program observes nothing"
    ):
        flows.train(flows.Model.from_graph(unseen))
    assert replace(unseen, source="v") == unseen


def test_an_effective_sample_size_that_is_no_number_is_not_written(
    monkeypatch, tmp_path
):
    none = torch.full((3,), torch.nan)
    monkeypatch.setattr(certification, "ess_fractions", lambda *_, **__: none)
    model = flows.Model.from_program(
        "(let [m (sample (normal 0 1))] (observe (normal m 1) 0.5) m)"
    )
    posterior = flows.train(model, config=QUICK, engine="torch")
    assert "ess" not in posterior.metrics
    posterior.save(tmp_path / "artifact")
    assert flows.load(tmp_path / "artifact", model).metrics == posterior.metrics


def test_a_flow_is_of_the_best_kind_unless_something_else_is_asked_for():
    program = "(let [m (sample (normal 0 1))] (observe (normal m 1) 0.5) m)"
    model = flows.Model.from_program(program)
    assert settings_for(model, budget="2m").kind == "autoregressive"
    assert settings_for(model, objective="forward").kind == "autoregressive"
    assert settings_for(model, engine="torch").kind == "autoregressive"
    assert settings_for(model, {"batch_size": 64}).kind == "autoregressive"
    assert settings_for(model, {"kind": "auto"}).kind == "autoregressive"
    assert settings_for(model, {"augment": 0}, augment=0).kind == "autoregressive"
    for given in (
        {"augment": 2},
        {"augment": "auto"},
        {"engine": "paper"},
        {"device": "cuda"},
    ):
        assert settings_for(model, **given).kind == "cnf"
    for config in ({"augment": 1}, {"num_steps": 6}, {"flow": {"layers": 3}}):
        assert settings_for(model, config).kind == "cnf"
    with pytest.raises(flows.FlowsError, match="flow of cnf, components: unknown key"):
        settings_for(model, {"flow": {"components": 3}})
    assert settings_for(model, {"kind": "finite"}).kind == "finite"
    assert settings_for(model, kind="cnf").kind == "cnf"
