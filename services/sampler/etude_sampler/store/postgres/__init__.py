"""Datasets, runs, the ledger and statistics in PostgreSQL."""
