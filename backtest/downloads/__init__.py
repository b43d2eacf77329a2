"""Filling the gaps of a store from a source."""
