"""More than one run of a strategy."""
