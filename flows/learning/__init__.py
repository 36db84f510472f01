"""Parameters that many data sets share, learned from all of them."""
