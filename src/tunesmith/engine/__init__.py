"""The one loop and what it calls: optimizer, schedule, precision, evaluation, best, saving.

May import everything up to `methods` and `evaluate`; knows no concrete method, adapter or model.
"""
