"""The fused engine: a whole solve, with its adjoint, in one compiled kernel."""
