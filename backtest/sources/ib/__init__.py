"""TWS and IB Gateway as a source of bars."""
