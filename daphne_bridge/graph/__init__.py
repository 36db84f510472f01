"""Documents, the graphs they describe, and what is wrong with them."""
