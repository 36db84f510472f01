"""Tests of flows.autoregressive."""
