"""What is traded, when, and what a bar is."""
