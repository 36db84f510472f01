"""This package holds compiled loops, and the folder where machine code is kept."""
