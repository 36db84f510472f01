"""Latents that need no network: integrated on a grid, and drawn given the others."""
