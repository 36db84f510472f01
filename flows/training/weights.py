"""This file keeps all weights of a flow in one vector, with their Adam.

The parameters are views of the vector, which makes a step a handful of operations
whatever their number. With the weights go their average and the best ones so far. Adam
is torch's function; its class would import a compiler first, which takes a second. A
module with an attribute `rate_share` has its weights take that share of each step, once
there have been a few thousand; whole ones at first.

References:
    Kingma and Ba, "Adam", ICLR 2015.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from ..errors import ArgumentError
from ..flow.protocol import Flow

__all__ = ["FlatWeights"]

_PREFIX = "weights."
_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8
_RAMP = 10.0
"""Steps until Adam knows how much gradients vary."""
_SLOWED = 3000.0
"""Steps after which `rate_share` holds."""


class FlatWeights:
    """Weights, moments, average and best weights of one flow.

    Args:
        flow: its parameters become views of the vector.
    """

    def __init__(self, flow: Flow) -> None:
        named = dict(flow.named_parameters())
        self._shapes = {name: p.shape for name, p in named.items()}
        flat = [p.detach().reshape(-1) for p in named.values()]
        self.values = torch.cat(flat) if flat else torch.zeros(0, dtype=flow.dtype)
        self.gradient = torch.zeros_like(self.values)
        for name, parameter in named.items():
            parameter.data = self._split(self.values)[name]
            parameter.grad = self._split(self.gradient)[name]
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(self.values)
        self._steps = torch.zeros(())
        self.average = self.values.clone()
        self.best = self.values.clone()
        self._shares = self._rate_shares(flow)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything a continuation needs; taken over by `restore`."""
        return {
            _PREFIX + name: tensor.clone() for name, tensor in self._parts().items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `tensors` gave.

        Raises:
            ArgumentError: if they are of another flow.
        """
        for name, tensor in self._parts().items():
            other = tensors.get(_PREFIX + name)
            if other is None or other.shape != tensor.shape:
                raise ArgumentError.at(
                    "training state",
                    f"{_PREFIX}{name} is of another flow, as one that an earlier "
                    "version built; train without --resume to start anew",
                    f"a tensor of shape {tuple(tensor.shape)}",
                    "none" if other is None else f"{tuple(other.shape)}",
                )
            tensor.copy_(other)

    def restart(self) -> None:
        """Forgets moments; the average starts from the weights."""
        for moment in (self._first, self._second, self._steps):
            moment.zero_()
        self.average.copy_(self.values)

    def go_back(self) -> None:
        """Takes the best weights up again."""
        self.values.copy_(self.best)
        self.restart()

    @torch.no_grad()
    def step(self, rate: float, clip: float, decay: float) -> bool:
        """One step of Adam along the gradient, and of the average.

        The first steps after a restart are shorter: made by one or a few gradients,
        they are as long as later ones and in hardly any direction.

        Args:
            rate: Adam's.
            clip: largest norm of the gradient.
            decay: of the average, smaller at first.

        Returns:
            False, and nothing has changed, if the gradient is not finite.
        """
        norm = float(self.gradient.norm())
        if not norm < torch.inf:
            return False
        if norm > clip:
            self.gradient.mul_(clip / norm)
        one, two = _ADAM_DECAYS
        before = self.values.clone() if self._shares is not None else None
        adam(
            [self.values],
            [self.gradient],
            [self._first],
            [self._second],
            [],
            [self._steps],
            foreach=False,
            fused=False,
            amsgrad=False,
            beta1=one,
            beta2=two,
            lr=rate * min(1.0, (1.0 + float(self._steps)) / _RAMP),
            weight_decay=0.0,
            eps=_ADAM_EPSILON,
            maximize=False,
        )
        count = float(self._steps)
        if self._shares is not None and before is not None:
            share = 1.0 - min(1.0, count / _SLOWED) * (1.0 - self._shares)
            torch.lerp(before, self.values, share, out=self.values)
        warmed = min(decay, (1.0 + count) / (10.0 + count))
        self.average.lerp_(self.values, 1.0 - warmed)
        return True

    def _rate_shares(self, flow: Flow) -> Tensor | None:
        """The share of a late step that each weight takes; nothing if all of it."""
        slow = {
            f"{name}.": share
            for name, module in flow.named_modules()
            if (share := getattr(module, "rate_share", None)) is not None
        }
        if not slow:
            return None
        shares = torch.ones_like(self.values)
        for name, own in self._split(shares).items():
            for start, share in slow.items():
                if name.startswith(start):
                    own.mul_(share)
        return shares

    def state_dict_with(self, flow: Flow, flat: Tensor) -> dict[str, Tensor]:
        """The state of a flow with other weights, for `load_state_dict`."""
        return {
            name: tensor.clone()
            for name, tensor in {**flow.state_dict(), **self._split(flat)}.items()
        }

    def fixed(self, flow: Flow) -> dict[str, Tensor]:
        """Copies of the tensors of a flow that training does not change."""
        return {
            name: tensor.clone()
            for name, tensor in flow.state_dict().items()
            if name not in self._shapes
        }

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self._shapes.values()]
        parts = torch.split(flat, sizes) if sizes else ()
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _parts(self) -> dict[str, Tensor]:
        return {
            "values": self.values,
            "first": self._first,
            "second": self._second,
            "steps": self._steps,
            "average": self.average,
            "best": self.best,
        }
