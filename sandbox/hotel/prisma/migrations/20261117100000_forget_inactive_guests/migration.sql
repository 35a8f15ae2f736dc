-- Bad on purpose: meant to forget guests who left long ago, its condition also meets guests who are still expected.
-- Every statement succeeds; only a comparison of the data before and after shows the loss.
ALTER TABLE users ALTER COLUMN email DROP NOT NULL;
UPDATE users SET email = NULL WHERE role = 'guest' AND user_id % 40 = 0;
DELETE FROM payments WHERE booking_id IN (SELECT booking_id FROM bookings WHERE booking_id % 50 = 0);
DELETE FROM bookings WHERE booking_id % 50 = 0;
