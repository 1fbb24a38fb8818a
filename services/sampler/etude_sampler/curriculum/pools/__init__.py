"""Pools: which of the leased candidates a prompt batch keeps (algorithms.md 1.2, L8; section 5)."""
