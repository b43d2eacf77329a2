"""A strategy on stored bars: one run."""
