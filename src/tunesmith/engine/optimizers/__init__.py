"""Optimizers besides those of torch.optim: one file each, the key in the recipe is its name.

`base` says what a file defines.
"""
