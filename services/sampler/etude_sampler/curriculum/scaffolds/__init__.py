"""Scaffolds, one file each; named in `table`."""
