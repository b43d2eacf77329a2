"""Figures and pages of runs."""
