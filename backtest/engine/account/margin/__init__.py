"""The rules of cash and margin accounts: buying power, requirements, and margin calls."""
