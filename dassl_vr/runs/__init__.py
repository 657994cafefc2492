"""Runs: what those of a table are, what is left to do of them, and who does it."""
