"""Measurements of Tunesmith; `README.md` beside this file says how to run them."""
