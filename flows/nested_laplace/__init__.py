"""Latents that are Gaussian but for what they say, drawn around modes given scales."""
