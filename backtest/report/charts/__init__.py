"""The interactive charts of runs."""
