"""The commands. Each module has a `main(argv)` that returns the exit code."""
