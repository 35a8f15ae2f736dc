-- Locks in the order in which the service takes them (bookings, then users), or the two could wait for each other:
-- dropping a foreign key locks the table it refers to.
ALTER TABLE bookings
    DROP COLUMN special_requests,
    DROP COLUMN channel;
DROP TABLE guest_preferences;
