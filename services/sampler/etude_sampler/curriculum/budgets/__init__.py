"""Budgets: how many rollouts each task of a prompt batch gets (algorithms.md 5, kind U)."""
