"""The parts of `prove`: what is trained in small, what it leaves, and how two of them differ."""
