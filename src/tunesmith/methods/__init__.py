"""How the loss is made: one file per method, paper and equation in its docstring.

May import everything up to `adapters`, `checkpoint` and `generate`; methods never import each
other. To add a method, add a file that defines what `methods/base.py` lists; the recipe's
`method.name` is the file's name.
"""
