-- Additive: the number a stay had in the system it was imported from. It names the row, so an import can run twice.
ALTER TABLE bookings ADD COLUMN reference varchar(40);
CREATE UNIQUE INDEX bookings_reference_key ON bookings (reference);
