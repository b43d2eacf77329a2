"""The demo, a new research folder, and what is wrong with this machine."""
