DROP INDEX bookings_room_night_key;
ALTER TABLE rooms DROP COLUMN exclusive;
