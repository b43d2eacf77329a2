"""Several runs of a strategy."""
