"""Measures: tasks and their graders, held-out loss, probes of what the base could do, statistics.

May import everything up to `adapters`, `checkpoint` and `generate`. To add a grader, add a file to
`graders/`; to add a probe, add one to `probes/`. Nothing here loads a model: what generates or
computes probabilities is handed in.
"""
