"""The market of a run beyond its own bars: its members, and the smaller bars on which orders fill."""
