"""From the `results.json` files of runs to tables and figures."""
