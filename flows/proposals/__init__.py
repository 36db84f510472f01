"""Flows and priors as proposals, with their terms of the log weight."""
