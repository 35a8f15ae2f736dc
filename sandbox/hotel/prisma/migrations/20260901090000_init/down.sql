DROP TABLE feature_flags;
DROP TABLE bookings;
DROP TABLE staff;
DROP TABLE rooms;
DROP TABLE users;
