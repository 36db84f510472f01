"""Tests of daphne_bridge.compiler."""
