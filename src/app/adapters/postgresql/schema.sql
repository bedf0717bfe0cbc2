-- The tables, triggers and functions of ninetabs in a PostgreSQL database (14 or later).
--
-- It is run only if the boot check finds something missing: CREATE INDEX, CREATE TRIGGER and ALTER TABLE wait for
-- every open transaction that has written to `models`, and meanwhile all other writers wait behind them.
BEGIN;
SET LOCAL lock_timeout = '4s';

-- Servers may start at the same time, and IF NOT EXISTS alone is subject to a race. 963928418 is '9tab', the
-- application id in the header of the SQLite file. Key 1 guards the schema, key 0 the numbers.
SELECT pg_advisory_xact_lock(963928418, 1);

-- CACHE must stay 1, the default. With a larger cache each connection reserves numbers for later, and numbers no
-- longer become visible in ascending order.
CREATE SEQUENCE IF NOT EXISTS models_numbers CACHE 1;

-- `id` has no default: only the trigger below assigns it.
CREATE TABLE IF NOT EXISTS models (
    id bigint PRIMARY KEY,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 16384),
    created_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS index_models_on_created_at ON models (created_at);

-- One row per history of the database: a failover or a restored backup starts a new one. The table also marks the
-- database as ours; a `models` table without it belongs to another program and is left untouched. The `word` of the
-- oldest row identifies the table in entity tags and cursors.
CREATE TABLE IF NOT EXISTS ninetabs_epochs (
    cluster text NOT NULL,
    timeline integer NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    word integer NOT NULL DEFAULT 1 + floor(random() * 2147483646)::integer,
    PRIMARY KEY (cluster, timeline)
);

-- Starts a new epoch if this history of the database has not been seen before, or if the caller knows of a number
-- that the database does not. Numbers then continue a million further on, beyond any that was delivered and lost.
-- The caller has the lock of the numbers.
CREATE OR REPLACE FUNCTION enter_epoch(known bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    is_first boolean := NOT EXISTS (SELECT FROM ninetabs_epochs);
    is_new boolean;
    last bigint;
BEGIN
    INSERT INTO ninetabs_epochs (cluster, timeline)
        SELECT system_identifier::text, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
        FROM pg_control_system()
        ON CONFLICT DO NOTHING;
    is_new := FOUND AND NOT is_first;
    SELECT last_value INTO last FROM models_numbers;
    is_new := is_new OR known > last;
    IF is_new THEN
        PERFORM setval('models_numbers', greatest(last, known) + 1000000);
    END IF;
    RETURN is_new;
END $$;

-- Assigns the number under a lock that the transaction holds until after its commit is visible. Numbers therefore
-- become visible in ascending order, whichever program writes. An id given by the writer is overruled.
CREATE OR REPLACE FUNCTION number_model() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    timeline text := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
BEGIN
    PERFORM pg_advisory_xact_lock(963928418, 0);
    -- Once per session. After a failover, a program may write before a server connects, or a session of a pooler may
    -- lead to the new primary without a new connection.
    IF current_setting('ninetabs.timeline', true) IS DISTINCT FROM timeline THEN
        BEGIN
            PERFORM enter_epoch(0);
            PERFORM set_config('ninetabs.timeline', timeline, false);
        EXCEPTION WHEN insufficient_privilege THEN
            -- A role without rights to ninetabs_epochs may insert nevertheless. A server begins the epoch.
            NULL;
        END;
    END IF;
    NEW.id := nextval('models_numbers');
    NEW.created_at := clock_timestamp();
    -- With `off`, a crash loses the last commits and their numbers are assigned again.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER number BEFORE INSERT ON models
    FOR EACH ROW EXECUTE FUNCTION number_model();
-- ALWAYS: it also fires in sessions with session_replication_role = replica.
ALTER TABLE models ENABLE ALWAYS TRIGGER number;

-- Sends one notification per statement, with the last number that it inserted, and none if it inserted nothing.
CREATE OR REPLACE FUNCTION notify_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ninetabs_models', max(id)::text) FROM inserted HAVING max(id) IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER notify AFTER INSERT ON models REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION notify_models();

-- Creates a model and deletes all but the newest `keep`, in one round trip; with `keep` null it deletes nothing. Rows
-- are counted, because numbers have gaps. Counting 1,000 rows takes three times as long as the insert, and it happens
-- under the lock, so it is done for one number in keep / 10, at most one in 100: up to a tenth more rows, at most 100,
-- are kept. With more than 1,000 the server asks for it only now and then.
-- A writer waits at most `wait_ms` for the lock. The setting ends with the transaction.
CREATE OR REPLACE FUNCTION create_model(
    new_name text, keep bigint, wait_ms integer, OUT id bigint, OUT created_at timestamptz
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM set_config('lock_timeout', wait_ms::text, true);
    INSERT INTO models AS m (name) VALUES (new_name) RETURNING m.id, m.created_at INTO id, created_at;
    IF keep IS NULL OR (keep <= 1000 AND id % greatest(1, keep / 10) <> 0) THEN RETURN; END IF;
    DELETE FROM models AS m WHERE m.id <= (SELECT o.id FROM models AS o ORDER BY o.id DESC OFFSET keep LIMIT 1);
END $$;

-- Calls `enter_epoch` for a server that connects. `known` is the newest number that it has seen, 0 if it has just started.
CREATE OR REPLACE FUNCTION begin_epoch(known bigint, wait_ms integer) RETURNS boolean
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM set_config('lock_timeout', wait_ms::text, true);
    -- It does not wait for a synchronous standby, which a new primary may not have yet, so that the models can be read
    -- meanwhile. A standby that does not have this epoch begins another one when it is promoted.
    PERFORM set_config('synchronous_commit', 'local', true);
    PERFORM pg_advisory_xact_lock(963928418, 0);
    RETURN enter_epoch(known);
END $$;
COMMIT;
