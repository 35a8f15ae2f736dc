"""Services that nobody here wrote, in the sandbox's cluster."""
