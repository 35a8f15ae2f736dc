-- Restores the schema. The e-mails and bookings themselves can only come from a backup.
UPDATE users SET email = 'unknown-' || user_id || '@guests.invalid' WHERE email IS NULL;
ALTER TABLE users ALTER COLUMN email SET NOT NULL;
