"""Discrete latents too wide to be summed out, each by a learned categorical head."""
