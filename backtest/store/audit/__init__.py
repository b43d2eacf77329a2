"""Verification of a store: checksums, validity and completeness of its bars."""
