"""Faithful inverses: elimination, NaMI, their documents and their judge."""
