"""Models that are asked about outputs: how they are named, reached, and their answers kept.

`section.py` holds the keys that such graders share, `endpoint.py` speaks to an OpenAI-compatible
service, `kept.py` keeps answers, `replies.py` reads them. A local model is opened by whoever grades
(`evaluate/means.py`).
"""
