"""Elementwise kernels for the processor, in C: one pass over memory where torch makes five.

Built once per machine in about a second by the C compiler that is there, kept under
`TUNESMITH_HOME`. Without a compiler, or on a GPU, each operation is computed by torch instead; the
two agree within rounding.
"""
