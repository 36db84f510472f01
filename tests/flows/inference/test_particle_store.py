"""Tests of flows.inference.particle_store."""

import os

import pytest
import torch

from flows.errors import InferenceError
from flows.inference.columns import latent_columns
from flows.inference.importance import importance_sample
from flows.inference.particle_store import ParticleStore, check_room
from flows.inference.particles import Particles
from flows.inference.proposal import PriorProposal

from .targets import NormalChain

MODEL = NormalChain(num_steps=3)
DATA = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)


def batches():
    reports = importance_sample(
        MODEL, PriorProposal(MODEL), DATA, 1000, seed=0, batch_size=400
    )
    return [report.particles for report in reports]


@pytest.mark.parametrize("most_in_memory", [0, 10**6])
def test_stored_particles_are_the_merged_batches(tmp_path, most_in_memory):
    store = ParticleStore(
        1500, latent_columns(MODEL.layout), tmp_path, most_in_memory=most_in_memory
    )
    for batch in batches():
        store.add(batch)
    merged = Particles.merge(batches())
    particles = store.particles()
    assert torch.equal(particles.latents, merged.latents)
    assert torch.equal(particles.log_weights, merged.log_weights)
    assert particles.summary() == merged.summary()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_too_many_is_refused(tmp_path):
    store = ParticleStore(700, latent_columns(MODEL.layout), tmp_path)
    first, second, _ = batches()
    store.add(first)
    with pytest.raises(ValueError, match="at most 300 of the same latents"):
        store.add(second)


def test_more_particles_than_the_machine_can_hold_are_refused(tmp_path):
    check_room(1000, 6, tmp_path, option="--num-particles")
    with pytest.raises(InferenceError, match=r"no room.*got 100000000000"):
        check_room(10**11, 6, tmp_path, option="--num-particles")


def test_draws_held_in_memory_need_room_for_their_latents(tmp_path, monkeypatch):
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    # Half of 10^6 bytes, at 64 + 2 * 8 * 6 bytes for each draw.
    check_room(3125, 6, tmp_path, option="--draws", in_memory=True)
    with pytest.raises(InferenceError, match=r"--draws.*at most 3125; got 3126"):
        check_room(3126, 6, tmp_path, option="--draws", in_memory=True)
    check_room(3126, 6, tmp_path, option="--num-particles")
