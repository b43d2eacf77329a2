"""Many trials of a strategy at once, the same to the last bit as one by one."""
