"""What is trained: one file per adapter, its `Config` beside it.

May import `errors`, `config`, `runs`, `data` and `models`. To add an adapter, add a file that
defines what `adapters/base.py` lists; the recipe's `adapter.name` is the file's name.
"""
