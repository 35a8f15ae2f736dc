-- 3.1 Pre-migration validation: the schema is what this service expects before anything is changed.
-- A check passes when its query gives no row, or one row with the value true.

-- check: tables of the plan exist
SELECT name FROM unnest(ARRAY['users', 'bookings', 'rooms', 'staff']) AS name
WHERE to_regclass('public.' || name) IS NULL;

-- check: every table has a primary key
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p');

-- check: bookings refer to users and rooms
SELECT count(*) = 2 FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid = 'public.bookings'::regclass
  AND k.confrelid IN ('public.users'::regclass, 'public.rooms'::regclass);

-- check: e-mail addresses are unique
SELECT EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = 'public.users'::regclass AND i.indisunique AND i.indisvalid
      AND i.indnkeyatts = 1
      AND i.indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = i.indrelid AND attname = 'email')
);
