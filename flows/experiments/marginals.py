r"""This file compares a trained flow's marginals with the model's (figure 3).

If q(z | x) is the posterior, draws of x from the model and then of z from q follow the
model's joint. Per latent: both samples' histograms and the Kolmogorov-Smirnov statistic
between them. The flow is trained by the project's own recipe (`training.fit`).
"""

from collections.abc import Callable
from typing import Any

import torch

from ..cnf.engines import EngineFactory
from ..cnf.flow import ConditionalFlow
from ..flow.kinds import certified
from ..flow.structure import Structure
from ..inference.calibration import ks_statistic
from ..model.model import Model
from ..training.batches import draw_batch
from ..training.certification import certify
from ..training.config import TrainingConfig
from ..training.loop import fit

__all__ = ["compare_marginals"]

_BINS = 60
_KS_DRAWS_LEVEL = 1.628  # 99 % point of the Kolmogorov distribution


def compare_marginals(
    model: Model,
    structure: Structure,
    config: TrainingConfig,
    *,
    num_draws: int,
    engine: EngineFactory,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Return histograms and KS statistics per latent, and certified J.

    Args:
        model: the target.
        structure: of the flow.
        config: of training.
        num_draws: of each sample, and of J.
        engine: makes the training engine.
        note: told what is done.
    """
    flow = ConditionalFlow(structure, config.flow, seed=0).with_engines(engine)
    seconds = 0.0
    for report in fit(model, flow, config, seed=0):
        seconds = report.seconds
        if report.certified is not None:
            note(f"J {report.certified.symmetric.sentence()} after {seconds:.0f} s")
    generator = torch.Generator().manual_seed(1)
    j = certify(model, flow, num_draws, generator=generator).symmetric
    truth, drawn = _samples(model, flow, num_draws)
    statistics = ks_statistic(truth, drawn)
    names = [n for v in model.layout.latents for n in v.column_names]
    return {
        "j": j.mean,
        "j_standard_error": j.standard_error,
        "j_not_finite": j.num_non_finite,
        "training_seconds": seconds,
        "num_draws": num_draws,
        "ks_99_percent_if_equal": _KS_DRAWS_LEVEL * (2.0 / num_draws) ** 0.5,
        "latents": {
            name: {
                "ks": float(statistics[column]),
                **_histograms(truth[:, column], drawn[:, column]),
            }
            for column, name in enumerate(names)
        },
    }


def _samples(
    model: Model, flow: ConditionalFlow, num_draws: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return latents of the joint, and of q given data of other draws."""
    generator = torch.Generator().manual_seed(2)
    precise = certified(flow, 1e-6)
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        free = precise.from_base(batch.base, batch.observed).free
        other = model.sample(num_draws, generator=generator)
        return other.latents, model.constrain(free)[0]


def _histograms(truth: torch.Tensor, drawn: torch.Tensor) -> dict[str, Any]:
    low, high = torch.quantile(truth, truth.new_tensor([0.001, 0.999])).tolist()
    edges = torch.linspace(low, high, _BINS + 1, dtype=truth.dtype)
    width = (high - low) / _BINS
    return {
        "edges": edges.tolist(),
        "model": (torch.histogram(truth, edges).hist / (len(truth) * width)).tolist(),
        "flow": (torch.histogram(drawn, edges).hist / (len(drawn) * width)).tolist(),
    }
