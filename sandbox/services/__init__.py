"""What surrounds the hotel system: one module a service, each a `Component` that the sandbox starts and stops."""
