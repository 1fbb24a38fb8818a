"""Alembic environment and revisions, shipped as package data."""
