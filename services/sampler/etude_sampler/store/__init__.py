"""Adapters of the ports: PostgreSQL (the truth) and Redis (races, leases, cargo)."""
