"""Tests of the target density."""
