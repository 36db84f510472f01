"""This package makes the figures of the paper: runs, measurements, pictures."""
