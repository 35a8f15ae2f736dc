"""`make faults-database`: what is done to the database's work on a real primary and replica, and what comes of it."""
