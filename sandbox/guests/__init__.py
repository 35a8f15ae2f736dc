"""The guests: a load generator that knows what happened to every single request and connection."""
