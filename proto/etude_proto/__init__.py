"""The protocol of Etude: wire models (`v1`), trajectory cargo (`cargo`, `tensors`), nothing else.

Everything may import this package; it imports nothing of ours.
"""

CONTRACT_VERSION = "1.0.0"
"""Version of the wire contract; moves apart from the packages' version."""
