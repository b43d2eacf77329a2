"""A TWS that answers from a store."""
