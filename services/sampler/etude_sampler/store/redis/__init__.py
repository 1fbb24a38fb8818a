"""Races, leases and the ready queue in Redis or Valkey, one Lua script a command."""
