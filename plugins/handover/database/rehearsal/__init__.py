"""A release's migrations tried on a copy of the newest verified backup: forward, back, and forward again (plan 1.2)."""
