"""Adapters of trainers that people already have: `trl`.

Each imports its framework, and nothing else of this package imports an adapter.
"""
