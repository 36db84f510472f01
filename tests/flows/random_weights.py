"""This file gives a flow weights that no training would find."""

import torch


def randomise(flow, model, scale):
    """Fit the normalisation to draws of the model, and add noise to all parameters."""
    draws = model.sample(500, generator=torch.Generator().manual_seed(1))
    flow.normalisation.fit(model.unconstrain(draws.latents)[0], draws.observed)
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=noise))
