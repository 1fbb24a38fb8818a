"""Fixtures of the sampler's unit tests."""

from __future__ import annotations

from support.shared_data import shared_data

__all__ = ["shared_data"]
