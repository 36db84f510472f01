"""Latents that are linear and Gaussian given the others, integrated out exactly."""
