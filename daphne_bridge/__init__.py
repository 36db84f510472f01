"""Daphne programs and documents as checked graphs, and their faithful inverses."""

__version__ = "0.1.0"
