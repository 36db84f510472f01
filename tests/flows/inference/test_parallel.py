"""Tests of flows.inference.parallel: equal to one process, whoever dies."""

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from flows.errors import InferenceError
from flows.inference.importance import importance_particles
from flows.inference.parallel import Sampler, parallel_importance_sample
from flows.inference.particles import Particles
from flows.inference.proposal import PriorProposal

from .targets import NormalChain

MODEL = NormalChain(num_steps=2)
DATA = (0.3, -0.8)


@dataclass(frozen=True)
class Deadly:
    """A prior proposal that kills its process before a draw, while a file is there."""

    inner: PriorProposal
    flag: Path
    keeps: bool

    nuisance_dim = 0

    def rsample_and_log_prob(self, observed, num_particles, *, generator):
        if self.flag.exists():
            if not self.keeps:  # the other worker may see the file at the same time
                self.flag.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.rsample_and_log_prob(
            observed, num_particles, generator=generator
        )


def make(flag=None, keeps=False):
    proposal = PriorProposal(MODEL)
    if flag is not None:
        proposal = Deadly(proposal, flag, keeps)
    return Sampler(MODEL, proposal, torch.tensor(DATA, dtype=torch.float64))


def drawn(maker, num=1000, **options):
    reports = parallel_importance_sample(
        maker, MODEL.layout, num, seed=5, num_workers=2, batch_size=300, **options
    )
    return list(reports)


def check(reports):
    """Hold batches against the particles that one process draws."""
    sampler = make()
    expected = importance_particles(
        MODEL, sampler.proposal, sampler.observed, 1000, seed=5, batch_size=300
    )
    merged = Particles.merge(report.particles for report in reports)
    assert torch.equal(merged.latents, expected.latents)
    assert torch.equal(merged.log_weights, expected.log_weights)
    assert reports[-1].totals.num_particles == 1000
    assert abs(reports[-1].totals.log_evidence - merged.totals.log_evidence) < 1e-12


def test_killed_worker_loses_and_repeats_no_particle(tmp_path):
    flag = tmp_path / "kill"
    flag.touch()
    reports = drawn(partial(make, flag))
    assert not flag.exists()
    check(reports)


@pytest.mark.slow
def test_workers_that_keep_dying_end_in_one_sentence(tmp_path):
    flag = tmp_path / "kill"
    flag.touch()
    with pytest.raises(InferenceError, match="keep dying"):
        drawn(partial(make, flag, True))
