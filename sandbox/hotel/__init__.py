"""The hotel system (PMS) of the stand-in production: a small web service on PostgreSQL, with good and bad releases."""
