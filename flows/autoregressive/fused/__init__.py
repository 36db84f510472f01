"""Log densities of all columns, and their gradients, in one compiled kernel."""
