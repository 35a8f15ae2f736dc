-- Additive: the release before this one goes on working, since every new column has a default or may be NULL.
-- A constant default and a nullable column rewrite no row.
ALTER TABLE bookings
    ADD COLUMN channel varchar(16) NOT NULL DEFAULT 'direct',
    ADD COLUMN special_requests text;

CREATE TABLE guest_preferences (
    user_id    bigint      PRIMARY KEY,
    language   varchar(8)  NOT NULL DEFAULT 'en',
    pillow     varchar(16),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT guest_preferences_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (user_id)
);
CREATE INDEX guest_preferences_language_idx ON guest_preferences (language);
