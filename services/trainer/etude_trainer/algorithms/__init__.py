"""The mathematics of an update: advantages, objective, aggregation, schedules.

Pure functions of tensors and numbers: no clock, no chance, no I/O. Read by `stages/learn.py`.
Every part is a table of named functions, so that a new variant is a new row.
"""
