"""The target density p(latents, observed) of a graph."""
