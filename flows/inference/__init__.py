"""Weights: proposals, particles and what can be trusted of them."""
