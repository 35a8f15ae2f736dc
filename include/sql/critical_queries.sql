-- 3.3 "Test critical queries": each must answer within migration.max_query_seconds.

-- query: a confirmed booking
SELECT * FROM bookings WHERE status = 'confirmed' LIMIT 1;

-- query: an administrator
SELECT * FROM users WHERE role = 'admin' LIMIT 1;

-- query: a guest by e-mail address
SELECT * FROM users WHERE email = 'test@example.com';

-- query: the newest bookings of a guest
SELECT * FROM bookings WHERE user_id = 3 ORDER BY booking_id DESC LIMIT 20;

-- query: the bookings of a room from today on
SELECT * FROM bookings WHERE room_id = 1 AND check_in >= current_date ORDER BY check_in LIMIT 20;
