"""Bars from files and frames in many formats, and bars written to files."""
