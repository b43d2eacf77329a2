"""Runs over many parameters."""
