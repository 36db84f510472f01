"""A run as tables, pictures and one page."""
