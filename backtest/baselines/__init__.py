"""Regression tests of strategies against saved results."""
