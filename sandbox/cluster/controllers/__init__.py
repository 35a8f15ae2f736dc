"""Controllers: each makes what is follow what should be, one object at a time."""
