"""Tools of every room of the house: they know nothing of methods, data or runs."""
