"""Data sources of bars."""
