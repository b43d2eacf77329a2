"""What a cash account and a margin account allow, require, and do where equity is short of it."""
