DROP INDEX bookings_reference_key;
ALTER TABLE bookings DROP COLUMN reference;
