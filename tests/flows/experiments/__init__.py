"""Tests of flows.experiments."""
