"""The stages of a step, in order: `fetch`, `learn`, `settle`; and `recover` before the first.

Each is a module of functions over values; `loop.py` calls them and says in which order.
"""
