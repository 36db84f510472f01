"""Training: losses, the loop over phases, certification."""
