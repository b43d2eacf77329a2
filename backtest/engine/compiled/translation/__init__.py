"""Translation of a strategy's code into the ledger's scalar code, which all backends accept."""
