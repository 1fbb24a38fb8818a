"""The trainer: turns training batches into optimizer steps and new policy versions."""
