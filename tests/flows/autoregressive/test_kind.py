"""Tests of flows.autoregressive.kind: trained, kept and used like any other kind."""

from collections import Counter
from dataclasses import asdict

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.autoregressive import kind
from flows.autoregressive.conditioner import Conditioner, NetworkConfig
from flows.autoregressive.fused import differentiable
from flows.errors import ArgumentError
from flows.flow.column_networks import ColumnNetworks
from flows.flow.kinds import certified, for_weights, kind_of, solved_with
from flows.front.train import train
from flows.inference.weights import WeightTotals
from flows.measurement.evaluation import EvaluationConfig, evaluate
from flows.model.model import Model
from flows.storage.artifact import Artifact
from flows.training.config import training_config_from
from flows.training.loop import fit
from tests.flows.cnf.models import Circuit
from tests.flows.conftest import inputs_document, pair_document
from tests.flows.quick import AUTOREGRESSIVE as SHORT


def _long_document(reverse=False):
    """Return a mean and a scale seen in 30 values, written back to front or not."""
    links = {
        "sample1": ["sample*", ["normal", 0, 2]],
        "sample2": ["sample*", ["gamma", 3, 2]],
    }
    values = {}
    for number in range(3, 33):
        name, seen = f"observe{number}", ["*", "sample1", number / 10]
        values[name] = number / 10 + (-1) ** number
        links[name] = ["observe*", ["normal", seen, "sample2"], values[name]]
    if reverse:
        links = dict(reversed(links.items()))
    return [{}, {"V": list(links), "A": {}, "P": links, "Y": values}, "sample1"]


def _model(document):
    return Model.from_graph(Graph.from_document(document_from_json(document, "x")))


@pytest.mark.parametrize(
    ("document", "least_ess"),
    [(pair_document(), 300), (inputs_document(), 300), (_long_document(), 50)],
)
def test_flow_is_trained_saved_loaded_and_weighed(document, least_ess, tmp_path):
    model = _model(document)
    posterior = train(model, config={**SHORT, "integrate": "none"})
    assert "solver_steps" not in posterior.metrics
    posterior.save(tmp_path / "artifact")
    artifact = Artifact.load(tmp_path / "artifact")
    assert artifact.manifest.flow.kind == "autoregressive"
    assert artifact.manifest.solver is None
    loaded = artifact.flow_for(model.graph, model.layout)
    draws = model.sample(50, generator=torch.Generator().manual_seed(2))
    free = model.unconstrain(draws.latents)[0]
    rows = free, free[:, :0], draws.observed
    torch.testing.assert_close(loaded.log_prob(*rows), posterior.flow.log_prob(*rows))
    particles = posterior.sample(num_particles=500, seed=0)
    assert WeightTotals.from_log_weights(particles.log_weights).ess > least_ess
    has_contexts = "conditioner.contexts.first" in artifact.tensors
    assert has_contexts == (len(model.layout.observed) == 30)


@pytest.mark.parametrize("document", [inputs_document, _long_document])
def test_flow_of_the_same_model_in_other_columns_is_the_same(document):
    model, other = _model(document()), _model(document(reverse=True))
    posterior = train(model, config={**SHORT, "integrate": "none"})
    found = posterior.artifact.flow_for(other.graph, other.layout)
    draws = model.sample(30, generator=torch.Generator().manual_seed(4))
    latents, observed = (
        [own.variable(each.name).start for each in those]
        for own, those in (
            (model.layout, other.layout.latents),
            (model.layout, other.layout.observed),
        )
    )
    free = model.unconstrain(draws.latents)[0]
    none = free[:, :0]
    torch.testing.assert_close(
        found.log_prob(free[:, latents], none, draws.observed[:, observed]),
        posterior.flow.log_prob(free, none, draws.observed),
    )


def test_training_brings_the_circuit_closer_in_both_directions():
    more = {"max_iterations": 150, "warm_start_batch_size": 256, "flow": {}}
    config = training_config_from({**SHORT, **more}, "x")
    flow = kind_of("autoregressive").build(Circuit.structure(), NetworkConfig(), 1)
    reports = list(fit(Circuit(), flow, config, seed=1, clock=lambda: 0.0))
    first, last = reports[0].certified, reports[-1].certified
    assert last.forward.mean < first.forward.mean - 1.0
    assert last.reverse.trimmed_mean < 0.5 * first.reverse.trimmed_mean
    assert {r.phase for r in reports} == {"warm start", "training", "done"}


def test_flow_is_evaluated():
    model = _model(pair_document())
    posterior = train(model, config=SHORT)
    config = EvaluationConfig(num_draws=200, num_data_sets=10, num_particles=100)
    *_, last = evaluate(model, posterior.flow, config)
    assert last.result.j.symmetric.mean < 0.2
    assert last.result.evaluations_base_to_latent == 0


def test_flow_for_weights_is_a_float64_copy_that_comes_back_itself():
    flow = kind_of("autoregressive").build(Circuit.structure(), NetworkConfig(), 0)
    weighed = for_weights(flow)
    assert weighed.dtype == torch.float64
    assert flow.dtype == torch.float32
    assert for_weights(weighed) is weighed
    assert certified(weighed) is weighed


def test_an_artifact_says_how_many_numbers_a_context_has(tmp_path):
    """Settings say that latents decide; the flow and its file say what they did."""
    weights = " ".join(f"w{k} (sample (normal 0 1))" for k in range(4))
    seen = " ".join(
        f"(observe (normal (+ w0 (* {k} w1) (* w2 w3)) 1) {k})" for k in range(8)
    )
    model = Model.from_program(f"(let [{weights}] {seen} [w0 w1 w2 w3])")
    settings = {**SHORT, "integrate": "none", "max_iterations": 2, "flow": {}}
    posterior = train(model, config=settings)
    assert posterior.flow.config.context == 14
    posterior.save(tmp_path / "artifact")
    manifest = Artifact.load(tmp_path / "artifact").manifest
    assert manifest.flow.config == asdict(posterior.flow.config)
    assert manifest.training.config["flow"]["context"] == -1


def test_settings_of_training_are_the_kinds_unless_said_otherwise():
    config = training_config_from({"kind": "autoregressive", "batch_size": 7}, "x")
    assert (config.augment, config.batch_size) == (0, 7)
    assert config.warm_start_fraction == 0.8
    assert training_config_from({}, "x").warm_start_fraction == 0.1
    said = {"kind": "autoregressive", "augment": 3}
    assert training_config_from(said, "x").augment == 3


def test_engines_are_refused_in_words(monkeypatch):
    flow = kind_of("autoregressive").build(Circuit.structure(), NetworkConfig(), 0)
    with pytest.raises(
        ArgumentError, match=r"expected one of auto, fused, torch.*dopri"
    ):
        solved_with(flow, "dopri")
    with pytest.raises(ArgumentError, match=r"engine: not a name; .* got None"):
        solved_with(flow, None)
    wide = kind_of("autoregressive").build(
        Circuit.structure(), NetworkConfig(hidden=200, layers=1), 0
    )
    assert solved_with(wide, "auto")._density is Conditioner.log_prob
    found = kind.import_module

    def broken(name, package):
        if name == ".fused.readiness":
            raise OSError("LLVM is lost")
        return found(name, package)

    monkeypatch.setattr(kind, "import_module", broken)
    with (
        pytest.warns(RuntimeWarning, match="LLVM is lost"),
        pytest.raises(ArgumentError, match=r"fused: cannot .*LLVM is lost.*Numba"),
    ):
        solved_with(flow, "fused")
    with pytest.warns(RuntimeWarning, match="goes on without it"):
        plain = solved_with(flow, "auto")
    free, nothing, observed = torch.ones(3, 6), torch.zeros(3, 0), torch.ones(3, 4)
    rows = free[:, : flow.structure.free_dim], nothing, observed
    rows = *rows[:2], observed[:, : flow.structure.observed_dim]
    assert (plain.log_prob(*rows) == flow.log_prob(*rows)).all()


@pytest.mark.parametrize("document", [pair_document(), _long_document()])
def test_training_by_the_kernel_is_that_by_torch(document, monkeypatch):
    """Up to rounding, in both phases; a view shares the flow's parameters."""
    flow = kind_of("autoregressive").build(Circuit.structure(), NetworkConfig(), 0)
    assert solved_with(flow, "fused").conditioner is flow.conditioner
    # With these an optimiser takes whole steps by slopes that are nothing but rounding.
    monkeypatch.setattr(ColumnNetworks, "whiten", lambda *_: None)
    calls = Counter()
    for name in ("score", "differentiate"):
        plain = getattr(differentiable._Task, name)

        def counted(*arguments, _name=name, _plain=plain, **more):
            calls[_name] += 1
            return _plain(*arguments, **more)

        monkeypatch.setattr(differentiable._Task, name, counted)
    flow_settings = {**SHORT["flow"], "forms": 0}
    settings = {**SHORT, "integrate": "none", "flow": flow_settings}
    model = _model(document)
    other = train(model, config=settings, engine="torch")
    assert not calls
    one = train(model, config=settings, engine="fused")
    # A step of the warm start takes one call, one of the contrasts two.
    steps = SHORT["max_iterations"]
    assert calls["differentiate"] == steps
    assert 0 < calls["score"] < steps // 2
    for name, values in one.flow.state_dict().items():
        torch.testing.assert_close(
            values, other.flow.state_dict()[name], rtol=1e-3, atol=1e-4
        )
