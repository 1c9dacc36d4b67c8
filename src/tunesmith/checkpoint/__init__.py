"""Checkpoints: all that is needed to go on, bit for bit, and proof that it is whole.

`commit.py` writes one, `verify.py` finds the newest that is whole, `retain.py` deletes old ones,
`state.py` puts tensors and optimizers into files. The room may import `errors`, `config` and
`runs`; only `state.py` needs torch. To save more, hand `commit` more files or values: nothing is
edited here.
"""
