DROP INDEX bookings_room_night_key;
ALTER TABLE bookings DROP COLUMN exclusive;
