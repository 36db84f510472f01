"""Structured conditional flows as proposals for Daphne's graphical models."""
