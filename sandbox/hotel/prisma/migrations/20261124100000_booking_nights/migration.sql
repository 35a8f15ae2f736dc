-- Additive: how long each stay is. Nobody fills it here; the data migration `nights` of the plan does, while guests book.
ALTER TABLE bookings ADD COLUMN nights integer;
