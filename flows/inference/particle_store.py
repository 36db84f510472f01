"""This file gathers batches of particles in bounded memory.

A few particles are kept in memory; the latents of many in a file without a name, mapped
into memory, which the operating system writes out and forgets when it must. Log weights
always stay in memory: 8 bytes for each particle.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from ..errors import ArgumentError, InferenceError
from ..model.layout import Variable
from .particles import Particles

__all__ = ["ParticleStore", "check_room"]

# Of each particle in memory: its log weight, and what sorting a column takes.
_BYTES_IN_MEMORY = 64
_MOST_OF_MEMORY = 0.5
_MOST_IN_MEMORY = 2**23


def check_room(
    num_particles: int,
    width: int,
    folder: Path,
    *,
    option: str,
    in_memory: bool = False,
) -> None:
    """Raise if so many particles cannot be held.

    Args:
        num_particles: The most that will be held.
        width: Numbers of each.
        folder: Where their files will be.
        option: What asks for them, for the message.
        in_memory: Whether their latents are held in memory, once as they are and once
            for the file.

    Raises:
        InferenceError: If memory or disk do not suffice.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    each = _BYTES_IN_MEMORY + (2 * 8 * width if in_memory else 0)
    room = min(
        int(_MOST_OF_MEMORY * memory) // each,
        # Once while drawing, once as the result.
        shutil.disk_usage(folder).free // (2 * 8 * (width + 1)),
    )
    if num_particles > room:
        raise InferenceError.at(
            option,
            "this machine has no room for so many",
            f"at most {room}",
            str(num_particles),
        )


class ParticleStore:
    """Room for a known number of particles, filled batch by batch.

    Args:
        num_particles: The most that will be added.
        columns: Which columns belong to which latent.
        folder: Where a file may be made for as long as the store lives.
        most_in_memory: The largest number of values kept in memory.
    """

    def __init__(
        self,
        num_particles: int,
        columns: tuple[Variable, ...],
        folder: Path,
        *,
        most_in_memory: int = _MOST_IN_MEMORY,
    ) -> None:
        width = columns[-1].stop if columns else 0
        self._columns = columns
        self._num = 0
        self._weights = torch.empty(num_particles, dtype=torch.float64)
        if num_particles * width <= most_in_memory:
            self._latents = torch.empty((num_particles, width), dtype=torch.float64)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                self._latents = torch.from_numpy(
                    np.memmap(file, np.float64, "w+", shape=(num_particles, width))
                )

    def add(self, batch: Particles) -> None:
        """Add the particles of a batch.

        Raises:
            ArgumentError: If there is no room, or the latents are others.
        """
        stop = self._num + batch.num_particles
        if batch.columns != self._columns or stop > self._weights.shape[0]:
            raise ArgumentError.at(
                "particle store",
                "the batch does not fit",
                f"at most {len(self._weights) - self._num} of the same latents",
                str(batch.num_particles),
            )
        self._latents[self._num : stop] = batch.latents
        self._weights[self._num : stop] = batch.log_weights
        self._num = stop

    def particles(self) -> Particles:
        """Return what was added so far, without a copy."""
        return Particles(
            self._latents[: self._num], self._weights[: self._num], self._columns
        )
