"""This file gives potentials of one form their numbers: by a network, or from a table.

The network is one for all potentials of the form, and reads a factor's data and where
its predictors lie; a linear layer stands beside it, which starts from draws. In a table
each potential has numbers of its own, for one data set alone.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Network", "Table", "network_widths"]

_LAST_LAYER_SCALE = 0.1


class Table(nn.Module):
    """Numbers of each potential.

    Args:
        count: how many potentials there are.
        width: how many numbers each has.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(count, width))

    def forward(
        self,
        data: Float[Tensor, "batch potential read"],  # noqa: ARG002
        lies: Float[Tensor, "potential place"],  # noqa: ARG002
    ) -> Float[Tensor, "1 potential number"]:
        """The numbers, whatever the data."""
        return self.values[None]

    def start(self, constant: Tensor, slopes: Tensor) -> None:  # noqa: ARG002
        """Starts all potentials from the same numbers."""
        self.values.copy_(constant.expand_as(self.values))


class Network(nn.Module):
    """Numbers from a factor's data, and where its predictors lie.

    Args:
        size: columns of a factor's data.
        widths: see `network_widths`.
        generator: source of the first weights.
    """

    def __init__(
        self, size: int, widths: list[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(_uniform(inputs, outputs, generator))
            for inputs, outputs in pairwise(widths)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(outputs)) for outputs in widths[1:]
        )
        self.skip = nn.Parameter(torch.zeros(2 * size, widths[-1]))
        with torch.no_grad():
            self.weights[-1].mul_(_LAST_LAYER_SCALE if len(widths) > 2 else 0.0)

    def forward(
        self,
        data: Float[Tensor, "batch potential read"],
        lies: Float[Tensor, "potential place"],
    ) -> Float[Tensor, "batch potential number"]:
        """The numbers of every potential.

        Args:
            data: at zero mean and unit scale.
            lies: location and log scale of the predictors.
        """
        kind = self.skip.dtype
        data = data.to(kind)
        data = torch.cat([data, torch.asinh(data)], -1)
        hidden = data
        if len(lies) > 1:
            lies = (lies - lies.mean(0)) / (lies.std(0) + 1e-6)
            hidden = torch.cat([data, lies.to(kind).expand(len(data), -1, -1)], -1)
        for number, (weight, bias) in enumerate(
            zip(self.weights, self.biases, strict=True)
        ):
            hidden = hidden if number == 0 else torch.tanh(hidden)
            hidden = hidden @ weight + bias
        return hidden + data @ self.skip

    def start(self, constant: Tensor, slopes: Tensor) -> None:
        """Starts from numbers that are linear in the first column of data."""
        self.biases[-1].copy_(constant)
        if len(self.skip):
            self.skip[0].copy_(slopes)


def network_widths(
    size: int, count: int, places: int, numbers: int, hidden: int, layers: int
) -> list[int]:
    """Widths of a network's layers.

    Args:
        size: columns of a factor's data.
        count: potentials that share it.
        places: predictors of each.
        numbers: that it gives.
        hidden: units of a hidden layer.
        layers: hidden layers.
    """
    inputs = 2 * size + (2 * places if count > 1 else 0)
    return [inputs, *([hidden] * layers if inputs else []), numbers]


def _uniform(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    noise = 2.0 * torch.rand(inputs, outputs, generator=generator) - 1.0
    return noise * math.sqrt(3.0 / max(inputs, 1))
