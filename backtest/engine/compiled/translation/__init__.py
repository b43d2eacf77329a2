"""A strategy's code, as the scalar code of the ledger: what all backends take."""
