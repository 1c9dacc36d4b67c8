"""Measurements of Tunesmith; each module is run with `python -m benchmarks.<name>`."""
