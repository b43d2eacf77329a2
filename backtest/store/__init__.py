"""Bars on disk as Parquet, and what was asked and answered."""
