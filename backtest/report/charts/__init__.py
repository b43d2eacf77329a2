"""The chart of a run that one can enter."""
