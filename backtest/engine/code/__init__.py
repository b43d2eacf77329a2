"""The code of a strategy: found, loaded, given its parameters, known by what it reaches; why it failed, in words."""
