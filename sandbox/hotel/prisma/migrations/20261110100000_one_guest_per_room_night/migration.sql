-- Bad on purpose: real data has two bookings of one room for one day (a cancelled one, a shared suite),
-- so the second statement fails after the first has added a column.
ALTER TABLE bookings ADD COLUMN exclusive boolean NOT NULL DEFAULT true;
CREATE UNIQUE INDEX bookings_room_night_key ON bookings (room_id, check_in) WHERE exclusive;
