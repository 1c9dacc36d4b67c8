"""What tests share: the tiny model, the byte tokenizer, small fakes.

Only tests import this room. It may import every other room; a new fake is a new file here.
"""
