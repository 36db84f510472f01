"""Tests of flows.front.posterior and flows.front.sampling, against closed forms."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

import flows
from flows.cli import main
from flows.front.source import Untrained

from ..commands.pair import exact
from ..conftest import pair_document
from .conftest import QUICK, model_of


def exact_density(rows, x, y):
    """Return log p(a, b | x, y) of the pair model, from one covariance."""
    prior = np.array([[4.0, 8.0], [8.0, 17.0]])
    gain = prior @ np.linalg.inv(prior + np.diag([1.0, 0.25]))
    mean, _ = exact(x, y)
    return stats.multivariate_normal(mean, prior - gain @ prior).logpdf(rows)


def test_it_comes_back_from_its_folder_with_the_same_density(
    model, posterior, tmp_path
):
    posterior.save(str(tmp_path / "artifact"))
    back = flows.load(str(tmp_path / "artifact"), model)
    assert back.metrics == posterior.metrics
    rows = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double()
    for data in (None, {"observe3": -1.0}):
        assert torch.equal(back.log_prob(rows, data), posterior.log_prob(rows, data))


def test_another_models_posterior_is_refused(posterior, tmp_path):
    posterior.save(tmp_path / "artifact")
    other = model_of(pair_document(scale=2))
    with pytest.raises(flows.FlowsError, match="of another model"):
        flows.load(tmp_path / "artifact", other)


def test_it_serves_the_same_model_with_other_names_and_data(posterior, tmp_path):
    posterior.save(tmp_path / "artifact")
    document = pair_document(numbers=(7, 2, 5, 9), data=(2.0, 3.0), reverse=True)
    found = flows.load(tmp_path / "artifact", model_of(document)).sample(None, 4000)
    means, evidence = exact(2.0, 3.0)
    errors = found.mean_standard_error()
    by_name = {c.name: c.start for c in found.columns}
    for name, mean in zip(("sample7", "sample2"), means, strict=True):
        column = by_name[name]
        assert abs(found.mean()[column] - mean) < 5 * errors[column]
    error = found.totals.log_evidence_standard_error
    assert abs(found.totals.log_evidence - evidence) < 5 * error


def test_the_density_of_an_exact_flow_is_the_posteriors(model):
    rows = np.array([[0.0, 1.0], [1.0, 2.0], [0.5, -1.0]])
    told = exact_density(rows, 0.3, 1.0)
    for augment, error in ((0, 0.1), (2, 0.3)):
        found = flows.train(model, config=QUICK, engine="torch", augment=augment)
        density = found.log_prob(
            torch.tensor(rows), {"observe3": 0.3, "observe4": 1.0}, num_draws=400
        )
        typical = told > told.max() - 8
        assert np.abs(density.numpy() - told)[typical].max() < error


def test_the_command_line_gives_the_same_particles_for_the_same_seed(
    model, posterior, tmp_path
):
    posterior.save(tmp_path / "artifact")
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    result = CliRunner().invoke(
        main,
        ["sample", f"{tmp_path / 'artifact'}", f"{tmp_path / 'graph.json'}",
         "-o", f"{tmp_path / 'p'}", "--observe", "observe3=-0.5", "--seed", "7",
         "--num-particles", "600", "--proposal", "mixture"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = posterior.sample({"observe3": -0.5}, 600, seed=7, proposal="mixture")
    with np.load(tmp_path / "p" / "particles.npz") as stored:
        np.testing.assert_array_equal(stored["log_weights"], found.log_weights)
        for name in ("sample1", "sample2"):
            np.testing.assert_array_equal(stored[name], found[name])


def test_twenty_data_sets_make_one_graph_one_model_and_no_flow_for_each(
    posterior, tmp_path, monkeypatch
):
    posterior.save(tmp_path / "artifact")
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    counts = {}

    def counted(owner, name, wrap=lambda call: call):
        original = getattr(owner, name)

        def call(*arguments, **options):
            counts[name] = counts.get(name, 0) + 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, wrap(call))

    counted(flows.Graph, "from_document", staticmethod)
    counted(flows.Model, "from_graph", staticmethod)
    counted(type(posterior.artifact), "flow_for")
    rows = "\n".join(f"{0.1 * i},{1.0 - 0.1 * i}" for i in range(20))
    (tmp_path / "d.csv").write_text(f"observe3,observe4\n{rows}\n")
    result = CliRunner().invoke(
        main,
        ["sample", f"{tmp_path / 'artifact'}", f"{tmp_path / 'graph.json'}",
         "-o", f"{tmp_path / 'p'}", "--observations", f"{tmp_path / 'd.csv'}",
         "--num-particles", "50", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["data_sets"]) == 20
    assert counts == {"from_document": 1, "from_graph": 1, "flow_for": 1}


def test_workers_draw_what_one_process_draws(posterior):
    one = posterior.sample(None, 12_000, seed=3)
    two = posterior.sample(None, 12_000, seed=3, num_workers=2)
    assert torch.equal(one.log_weights, two.log_weights)
    assert torch.equal(one.latents, two.latents)


def test_data_come_as_scalars_of_any_library_or_as_a_row(posterior):
    said = posterior.sample({"observe3": 0.25}, 50)
    for value in (np.float64(0.25), np.array(0.25), torch.tensor(0.25)):
        found = posterior.sample({"observe3": value}, 50)
        assert torch.equal(found.latents, said.latents)
    row = posterior.model.observation({"observe3": 0.25})
    assert torch.equal(posterior.sample(row, 50).latents, said.latents)
    with pytest.raises(flows.FlowsError, match="observed: wrong shape"):
        posterior.sample(torch.zeros(3), 50)


def test_what_a_notebook_shows_of_a_value_is_one_line(model, posterior):
    answer = flows.infer(model)
    program = "(let [m (sample (normal 0 9))] (observe (normal m 1) 0) m)"
    rows = [{"observe1": 1.0}, {"observe1": 2.0}]
    learned = flows.learn(flows.Model.from_program(program), rows, ["m"])
    shown = {
        "<Model pair.json: 2 latent, 2 observed>": model,
        f"<Inference by {answer.method}, log evidence ": answer,
        "<Posterior of <Model pair.json: 2 latent, 2 observed> by cnf>": posterior,
        "<Particles: 100 weighted rows of sample1, sample2>": posterior.sample(
            num_particles=100
        ),
        "<Learned by exact from 2 rows, m = 1.4908>": learned,
    }
    for beginning, value in shown.items():
        assert repr(value).startswith(beginning)
        assert "\n" not in repr(value)
        assert len(repr(value)) < 120


def test_the_command_line_measures_the_same_for_the_same_seed(posterior, tmp_path):
    posterior.save(tmp_path / "artifact")
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    result = CliRunner().invoke(
        main,
        ["evaluate", f"{tmp_path / 'artifact'}", f"{tmp_path / 'graph.json'}",
         "--num-draws", "300", "--num-data-sets", "12", "--seed", "3", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    shares = []
    found = posterior.evaluate(
        300, num_data_sets=12, seed=3, on_progress=shares.append
    ).to_json()
    said = json.loads(result.stdout)
    for of in ("j", "latents", "config"):
        assert said[of] == found[of]
    assert said["flow"]["ess_median"] == found["flow"]["ess_median"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_is_measured_of_an_exact_flow(model):
    # The affine layer alone is the posterior of a linear Gaussian model.
    exact_flow = flows.train(model, kind="autoregressive", config={"max_iterations": 1})
    found = exact_flow.evaluate(4000, num_data_sets=20)
    j = found.j.symmetric
    assert abs(j.mean) < 0.01 + 5 * j.standard_error
    assert found.flow.ess_median > 0.98 > found.prior.ess_median


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"num_draws": 1}, "num_draws"),
        ({"num_data_sets": 0}, "num_data_sets"),
        ({"num_particles": 2.5}, "num_particles"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_is_out_of_range_is_not_measured(posterior, asked, place):
    with pytest.raises(flows.FlowsError, match=f"{place}: not a number in range"):
        posterior.evaluate(**asked)


def test_a_flow_of_one_data_set_is_not_measured_on_others(model):
    alone = flows.refine(model, budget=10, engine="torch", config={"max_iterations": 1})
    with pytest.raises(flows.FlowsError, match="of one data set"):
        alone.evaluate()


NO_SCALE = """
(let [z (sample (normal 5 1))
      w (sample (normal 0 1))
      x (observe (normal w z) 1.0)
      y (observe (normal z 0.7) 5.0)]
  z)
"""
"""Of a flow's draws given y = -1 some have a negative scale, of the prior's none."""


def test_draws_of_a_flow_without_meaning_weigh_nothing_in_any_process():
    model = flows.Model.from_program(NO_SCALE)
    posterior = flows.train(
        model, kind="autoregressive", config={"max_iterations": 1}, engine="torch"
    )
    particles = posterior.sample({"y": -1.0}, 2000, seed=0)
    scale = particles["sample0"]
    assert bool((scale < 0).any())
    assert bool((particles.log_weights[scale < 0] == -math.inf).all())
    assert particles.totals.ess > 10
    assert posterior.evaluate(num_data_sets=10).flow.ess_median >= 0.0
    again = posterior.sample({"y": -1.0}, 2000, seed=0, num_workers=2)
    torch.testing.assert_close(again.log_weights, particles.log_weights)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_draws_of_the_prior_without_meaning_weigh_nothing(num_workers):
    program = NO_SCALE.replace("normal 5 1", "normal 1 1")
    source = Untrained.of(flows.Model.from_program(program))
    particles = source.sample(
        num_particles=2000, seed=0, proposal="prior", num_workers=num_workers
    )
    scale = particles["sample0"]
    assert bool((scale < 0).any())
    assert bool((particles.log_weights[scale < 0] == -math.inf).all())
