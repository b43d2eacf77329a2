"""The market of a run beyond its own bars: who belongs to it, and on which bars its orders are filled."""
