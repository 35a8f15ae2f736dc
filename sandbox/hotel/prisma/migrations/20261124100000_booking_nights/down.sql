ALTER TABLE bookings DROP COLUMN nights;
