"""Adapters of trainers that people already have: `trl`, `verl`, `skyrl`, `openrlhf`, `nemo_rl`,
`slime`, `prime_rl`; the last three have their trainers' interfaces without importing them.

Nothing else of this package imports an adapter.
"""
