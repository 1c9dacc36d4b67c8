"""Weights for someone else's program, and the proof that they are what was trained.

May import everything up to `methods` and `evaluate`; never the engine.
"""
