"""Sequential Monte Carlo: observes one by one, or a path of temperatures."""
