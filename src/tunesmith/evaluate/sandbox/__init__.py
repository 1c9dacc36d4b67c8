"""Code that users and models wrote, run in a process of its own behind the kernel's walls.

`box.py` is our end, `inside.py` the program at the other; `walls.py` is what that raises around
itself before it runs anything. The two files of the other end import the standard library alone.
"""
