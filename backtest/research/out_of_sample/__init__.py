"""Parameters judged on sessions that did not choose them."""
