"""The structured Gaussian: exact where a model is linear and normal, else learned."""
