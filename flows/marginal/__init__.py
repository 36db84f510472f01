"""Discrete latents summed out exactly: tables, elimination, draws given the rest."""
