"""Vendors of bars."""
