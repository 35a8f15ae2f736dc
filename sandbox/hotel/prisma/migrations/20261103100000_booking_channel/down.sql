DROP TABLE guest_preferences;
ALTER TABLE bookings
    DROP COLUMN special_requests,
    DROP COLUMN channel;
