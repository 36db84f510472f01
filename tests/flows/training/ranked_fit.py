"""This file fits a small flow in float64 and saves its tensors: run it under torchrun.

    python -m torch.distributed.run ... -m tests.flows.training.ranked_fit FOLDER

Each process writes FOLDER/RANK.safetensors and FOLDER/RANK.json.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

from flows.training.loop import fit
from flows.training.processes import joined_ranks
from tests.flows.training.test_loop import Curved, Failing, _config, _flow


class FailingOnRank(Failing):
    """Gives nan at one gradient of one process."""

    def __init__(self, rank):
        super().__init__({9} if rank == 1 else ())


def fitted(ranks, *, fails=False):
    """Return the tensors and the reports of a run that `ranks` share."""
    flow = _flow().double()
    model = FailingOnRank(ranks.rank) if fails else Curved()
    config = _config(batch_size=17, final_batch_size=25)
    run = fit(model, flow, config, seed=3, ranks=ranks)
    reports = [asdict(report) for report in run]
    return flow.state_dict(), reports


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with joined_ranks() as ranks:
        tensors, reports = fitted(ranks, fails="--nan" in sys.argv)
    safetensors.torch.save_file(tensors, folder / f"{ranks.rank}.safetensors")
    (folder / f"{ranks.rank}.json").write_text(json.dumps(reports))
    sys.stdout.write(f"done {ranks.rank}\n")


if __name__ == "__main__":
    main()
