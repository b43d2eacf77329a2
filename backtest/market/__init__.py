"""Instruments, trading hours, and bars."""
