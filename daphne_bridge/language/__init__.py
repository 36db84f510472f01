"""What the words of a program mean: families and primitives."""
