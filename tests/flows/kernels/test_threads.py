"""Tests of flows.kernels.threads."""

import os
import threading

import pytest
import torch

from flows.kernels.threads import in_threads, threads_of_each


@pytest.mark.parametrize(
    ("available", "torch_threads", "processes", "threads"),
    [(16, 16, 1, 4), (16, 2, 1, 2), (3, 16, 1, 3), (8, 8, 4, 2), (2, 2, 4, 1)],
)
def test_processes_share_what_they_may_use(
    monkeypatch, available, torch_threads, processes, threads
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads)
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _: set(range(available)), raising=False
    )
    assert threads_of_each(processes) == threads


@pytest.mark.parametrize("num_threads", [1, 3])
def test_each_job_is_done_once_with_scratch_that_comes_back(num_threads):
    done, idle, lock = [], [], threading.Lock()

    def work(job, scratch):
        with lock:
            done.append(job)
        scratch.append(job)

    in_threads(work, range(10), num_threads, idle, list)
    assert sorted(done) == list(range(10))
    assert sorted(job for scratch in idle for job in scratch) == list(range(10))
    assert 1 <= len(idle) <= num_threads


def test_what_a_job_raises_is_raised():
    def work(job, _):
        if job == 7:
            raise ValueError(job)

    with pytest.raises(ValueError, match="7"):
        in_threads(work, range(10), 3, [], list)
