"""The report of a run, told from its folder alone: terminal, Markdown and one HTML page.

What is said lives in `verdict.py` and `chapters.py`; how it looks lives in `terminal.py`,
`markdown.py` and `page.py`, one file per form. `write.py` leaves `report.md` and `report.html`.
It may import `errors` and the rest of `runs`, never torch. A new part of the report is one function
in `chapters.py`: all three forms show it.
"""
