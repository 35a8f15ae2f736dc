"""Measurements while a colour serves, and the verdict from them: sources do I/O, everything else is pure."""
