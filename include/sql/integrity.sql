-- "Data Validation Post-Migration": what must be true of the data before and after every migration.
-- A check passes when its query gives no row, or one row with the value true.
-- Record counts are compared by the step itself (migration.counted_tables in the plan).

-- check: users have an e-mail address
SELECT user_id FROM users WHERE email IS NULL;

-- check: bookings have an id
SELECT 1 FROM bookings WHERE booking_id IS NULL;

-- check: rooms have an id
SELECT 1 FROM rooms WHERE room_id IS NULL;

-- check: bookings belong to users
SELECT b.booking_id FROM bookings b WHERE NOT EXISTS (SELECT FROM users u WHERE u.user_id = b.user_id);

-- check: bookings are of rooms
SELECT b.booking_id FROM bookings b WHERE NOT EXISTS (SELECT FROM rooms r WHERE r.room_id = b.room_id);

-- check: payments belong to bookings
SELECT p.payment_id FROM payments p WHERE NOT EXISTS (SELECT FROM bookings b WHERE b.booking_id = p.booking_id);

-- check: users were created in the past
SELECT user_id FROM users WHERE created_at IS NULL OR created_at > now() + interval '1 day';

-- check: stays end after they begin
SELECT booking_id FROM bookings WHERE check_in IS NULL OR check_out IS NULL OR check_out <= check_in;

-- check: stays are within ten years
SELECT booking_id FROM bookings
WHERE check_in < current_date - interval '10 years' OR check_out > current_date + interval '10 years';
