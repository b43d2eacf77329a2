"""Many trials of a strategy at once, equal to single runs to the last bit."""
