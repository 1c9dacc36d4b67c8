"""Bases, and the compute paths of models: packed attention, fused head and loss, fast LoRA.

May import `errors` and `config`. A base needs no file here: transformers brings the model. A new
compute path is one file, with the reference path it must equal named in its docstring.
"""
