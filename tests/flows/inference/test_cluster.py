"""Tests of flows.inference.cluster: equal to one process, whoever dies."""

from functools import partial

import pytest

from flows.errors import InferenceError
from flows.inference.cluster import cluster_importance_sample

from .test_parallel import MODEL, check, make

distributed = pytest.importorskip("distributed")

# The library's own: sockets that close late when a worker was killed.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as local:
        yield local


def drawn(cluster, maker, num=1000):
    return list(
        cluster_importance_sample(
            maker,
            MODEL.layout,
            num,
            seed=5,
            address=cluster.scheduler_address,
            batch_size=300,
        )
    )


def test_a_cluster_draws_what_one_process_draws(cluster):
    check(drawn(cluster, make))


def test_a_killed_worker_loses_and_repeats_no_particle(cluster, tmp_path):
    flag = tmp_path / "kill"
    flag.touch()
    check(drawn(cluster, partial(make, flag)))
    assert not flag.exists()


def test_a_batch_that_kills_every_worker_ends_in_one_sentence(cluster, tmp_path):
    flag = tmp_path / "kill"
    flag.touch()
    with pytest.raises(InferenceError, match="keep dying over a batch"):
        drawn(cluster, partial(make, flag, True))
    flag.unlink()


def test_a_cluster_without_workers_or_scheduler_is_refused():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(InferenceError, match="no workers"),
    ):
        drawn(empty, make)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(InferenceError, match="no scheduler answers"):
            list(
                cluster_importance_sample(
                    make, MODEL.layout, 10, seed=0, address=address
                )
            )
