"""Tests of flows.inference."""
