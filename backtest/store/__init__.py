"""Bars on disk as Parquet, and the record of requests and answers."""
