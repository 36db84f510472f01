"""Tests of flows.kernels."""
