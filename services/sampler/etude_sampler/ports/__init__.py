"""Ports: what the service needs of its stores, as narrow protocols and plain values.

Each protocol has one implementation (`store/redis`, `store/postgres`); they exist so that the
service imports no driver, not so that tests can replace a server.
"""
