"""How good a proposal is, where it is wrong, and what it predicts."""
