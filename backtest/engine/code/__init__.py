"""Loading a strategy's code, its parameters, what the code depends on, and its errors."""
