"""Latents that need no network: integrated out, and drawn given the others."""
