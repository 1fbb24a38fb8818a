"""The trainer's small API: health, metrics, status. Reads the board, changes nothing."""
