"""`make bench-database`: backup, backfill, validation and rehearsal on a real primary and replica."""
