"""The commands of `daphne-flows`, one per file."""
