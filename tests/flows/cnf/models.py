"""This file holds small models, written by hand, that the flow's tests need.

They share no code with `flows.model`. Latents are unconstrained, so free coordinates
are natural ones.
"""

import torch
from torch import Tensor
from torch.distributions import Laplace, Normal

from flows.flow.structure import StateBlock, Structure
from flows.model.draws import Draws


class FreeModel:
    """A model whose latents are real numbers."""

    has_density = True

    def log_joint_free(self, free: Tensor, observed: Tensor) -> Tensor:
        return self.log_joint(free, observed)

    def unconstrain(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return latents, latents.new_zeros(latents.shape[:-1])


class Circuit(FreeModel):
    """The arithmetic circuit of the paper; latents z0..z5, observed x0, x1."""

    latent_dim = 6
    observed_dim = 2

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        z0, z1, z2, z3, z4, z5 = z.unbind(-1)
        return (
            -(z0 - 5).abs()
            - (z1 + 2).abs()
            - 2 * torch.tensor(2.0).log()
            + Normal(torch.tanh(z0 + z1 - 2.8), 0.1).log_prob(z2)
            + Normal(z0 * z1, 0.1).log_prob(z3)
            + Normal(z4.new_tensor(7.0), 2.0).log_prob(z4)
            + Normal(torch.tanh(z3 + z4), 0.1).log_prob(z5)
            + Normal(z3, 0.1).log_prob(x[..., 0])
            + Normal(z5, 0.1).log_prob(x[..., 1])
        )

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        def normal() -> Tensor:
            return torch.randn(num, generator=generator, dtype=torch.float64)

        u = torch.rand(2, num, generator=generator, dtype=torch.float64)
        z0, z1 = Laplace(0.0, 1.0).icdf(u.clamp(1e-12, 1 - 1e-12))
        z0, z1 = z0 + 5, z1 - 2
        z2 = torch.tanh(z0 + z1 - 2.8) + 0.1 * normal()
        z3 = z0 * z1 + 0.1 * normal()
        z4 = 7 + 2 * normal()
        z5 = torch.tanh(z3 + z4) + 0.1 * normal()
        x = torch.stack([z3 + 0.1 * normal(), z5 + 0.1 * normal()], -1)
        return Draws(torch.stack([z0, z1, z2, z3, z4, z5], -1), x)

    @staticmethod
    def structure(nuisances: int = 0) -> Structure:
        a = nuisances
        return Structure(
            (
                StateBlock("z5", (5,), a, (), (0, 1)),
                StateBlock("z3", (3,), a, (0,), (0,)),
                StateBlock("z2", (2,), a, (1,), ()),
                StateBlock("z1", (1,), a, (1, 2), ()),
                StateBlock("z0", (0,), a, (1, 2, 3), ()),
                StateBlock("z4", (4,), a, (0, 1), ()),
            ),
            observed_dim=2,
        )


class LinearGaussian(FreeModel):
    """v = c + A v + D e over all variables, latents first; A strictly lower in order.

    Args:
        coefficients: A, [variable, variable].
        offset: c.
        scale: standard deviations, the diagonal of D.
        num_latents: how many of the variables are latent.
    """

    def __init__(self, coefficients, offset, scale, num_latents):
        self.coefficients = torch.as_tensor(coefficients, dtype=torch.float64)
        self.offset = torch.as_tensor(offset, dtype=torch.float64)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.num_latents = num_latents
        size = self.offset.numel()
        self.solve = torch.linalg.inv(
            torch.eye(size, dtype=torch.float64) - self.coefficients
        )
        root = self.solve * self.scale
        self.mean = self.solve @ self.offset
        self.covariance = root @ root.T

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        noise = torch.randn(
            num, self.offset.numel(), generator=generator, dtype=torch.float64
        )
        values = (self.offset + noise * self.scale) @ self.solve.T
        return Draws(values[:, : self.num_latents], values[:, self.num_latents :])

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        values = torch.cat([z, x], -1)
        coefficients = self.coefficients.to(values)
        mean = self.offset.to(values) + values @ coefficients.T
        return Normal(mean, self.scale.to(values)).log_prob(values).sum(-1)

    def conditional(self, column: int, given: list[int]):
        """Slopes, intercept and scale of one variable given others."""
        cov = self.covariance
        if not given:
            return torch.zeros(0), self.mean[column], cov[column, column].sqrt()
        slopes = torch.linalg.solve(cov[given][:, given], cov[given, column])
        intercept = self.mean[column] - slopes @ self.mean[given]
        variance = cov[column, column] - slopes @ cov[given, column]
        return slopes, intercept, variance.sqrt()


def state_space(num_steps: int = 10) -> tuple[LinearGaussian, Structure]:
    """Random walk, sd 5 at first, then 0.1, observed with sd 0.1 at every step."""
    size = 2 * num_steps
    coefficients = torch.zeros(size, size)
    scale = torch.full((size,), 0.1)
    scale[0] = 5.0
    for step in range(num_steps):
        if step:
            coefficients[step, step - 1] = 1.0
        coefficients[num_steps + step, step] = 1.0
    model = LinearGaussian(coefficients, torch.zeros(size), scale, num_steps)
    # eliminated from the first step on, so sampled from the last: z_T | x_1..T; then
    # z_t | z_{t+1}, x_1..t
    blocks = []
    for position, step in enumerate(reversed(range(num_steps))):
        parents = (position - 1,) if position else ()
        columns = tuple(range(step + 1))
        blocks.append(StateBlock(f"z{step}", (step,), 0, parents, columns))
    return model, Structure(tuple(blocks), num_steps)


def gaussian_tree() -> tuple[LinearGaussian, Structure]:
    """A root (20, sd 10), two children (sd 5), four leaves (sd 1), two data each."""
    size = 7 + 8
    coefficients = torch.zeros(size, size)
    offset = torch.zeros(size)
    offset[0] = 20.0
    scale = torch.tensor([10.0, 5, 5, 1, 1, 1, 1] + [1.0] * 8)
    for child, parent in ((1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)):
        coefficients[child, parent] = 1.0
    for leaf in range(4):
        coefficients[7 + 2 * leaf, 3 + leaf] = 1.0
        coefficients[8 + 2 * leaf, 3 + leaf] = 1.0
    model = LinearGaussian(coefficients, offset, scale, 7)
    # from the root down, by conditioning on everything below
    blocks = [StateBlock("z0", (0,), 0, (), tuple(range(8)))]
    blocks.append(StateBlock("z1", (1,), 0, (0,), (0, 1, 2, 3)))
    blocks.append(StateBlock("z2", (2,), 0, (0,), (4, 5, 6, 7)))
    for leaf, parent in ((0, 1), (1, 1), (2, 2), (3, 2)):
        name = f"z{3 + leaf}"
        data = (2 * leaf, 2 * leaf + 1)
        blocks.append(StateBlock(name, (3 + leaf,), 0, (parent,), data))
    return model, Structure(tuple(blocks), 8)
