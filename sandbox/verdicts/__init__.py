"""Simulated releases for `make bench-verdicts`: what they do, and who judges them by it."""
