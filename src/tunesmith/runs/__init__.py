"""The run folder: layout, events, timeline, listing and report.

Everything that watches a run (the live line, `tunesmith runs`, the dashboard, the report) reads
this folder and nothing else. The room may import `errors` and `config`, never torch. A new kind of
event is one frozen dataclass in `events.py` and its entry in `Event` and `KINDS`.
"""
