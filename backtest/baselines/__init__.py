"""Strategies held to the numbers that they had."""
