"""Weighers: statistics -> weight of a task in a lane. One file a part."""
