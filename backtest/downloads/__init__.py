"""Gaps of a store filled from a source."""
