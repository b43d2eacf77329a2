"""Is a store as it was written, and are its bars complete?"""
