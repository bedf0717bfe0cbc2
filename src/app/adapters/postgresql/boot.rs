//! Prepares a database: checks what it has, and creates what is missing.
//!
//! The check only reads the catalogs. The statements that create something wait for other programs' transactions,
//! and make all other writers wait behind them, so they run only if something is missing.

use std::time::Duration;

use super::super::Failure;
use super::connection::{CallLimit, PgConnection};

const SCHEMA: &str = include_str!("schema.sql");
/// How long the creation may take. It waits at most 4 s for each lock.
const CREATED_WITHIN: Duration = Duration::from_secs(30);
/// `CREATE OR REPLACE TRIGGER` came with version 14.
const OLDEST_VERSION: i32 = 140_000;

/// Reads the catalogs. Names are looked up in the schemas of `search_path`, as the statements do.
const LOOK: &str = "SELECT
    current_setting('server_encoding'),
    current_setting('server_version_num')::integer,
    to_regclass('models') IS NOT NULL,
    to_regclass('ninetabs_epochs') IS NOT NULL,
    (SELECT count(*) = 3 FROM pg_attribute WHERE attrelid = to_regclass('models') AND NOT attisdropped
        AND (attname, atttypid::regtype::text) IN (
            ('id', 'bigint'), ('name', 'text'), ('created_at', 'timestamp with time zone'))),
    (SELECT count(*) = 4 FROM pg_attribute WHERE attrelid = to_regclass('ninetabs_epochs') AND NOT attisdropped
        AND attname IN ('cluster', 'timeline', 'since', 'word')),
    (SELECT seqcache FROM pg_sequence WHERE seqrelid = to_regclass('models_numbers')),
    (SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = to_regclass('models') AND tgname = 'number'),
    (SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = to_regclass('models') AND tgname = 'notify'),
    to_regclass('index_models_on_created_at') IS NOT NULL
        AND to_regprocedure('number_model()') IS NOT NULL
        AND to_regprocedure('notify_models()') IS NOT NULL
        AND to_regprocedure('create_model(text, bigint, integer)') IS NOT NULL
        AND to_regprocedure('enter_epoch(bigint)') IS NOT NULL
        AND to_regprocedure('begin_epoch(bigint, integer)') IS NOT NULL,
    pg_is_in_recovery()";

/// The parts of the schema that exist according to the catalogs.
struct SeenSchema {
    has_models: bool,
    has_epochs: bool,
    has_columns: bool,
    has_epoch_columns: bool,
    sequence_cache: Option<i64>,
    number_trigger: Option<String>,
    notify_trigger: Option<String>,
    has_the_rest: bool,
}

/// Creates the missing parts of the schema, or refuses the database. A database that is refused is not changed.
pub(super) fn prepare(connection: &mut PgConnection, limit: &CallLimit<'_>) -> Result<(), Failure> {
    // Another server may create the schema during a look, which then sees a part of it. A refusal is therefore checked
    // by a second look.
    let is_ready = match is_complete(&look(connection, limit)?) {
        Ok(is_ready) => is_ready,
        Err(_) => is_complete(&look(connection, limit)?)?,
    };
    if is_ready {
        return Ok(());
    }
    connection.execute(SCHEMA, &CallLimit::new(CREATED_WITHIN, None))?;
    let seen = look(connection, &CallLimit::new(CREATED_WITHIN, None))?;
    if is_complete(&seen)? {
        Ok(())
    } else {
        Err(Failure::Setup("its tables could not be created".to_owned()))
    }
}

fn look(connection: &mut PgConnection, limit: &CallLimit<'_>) -> Result<SeenSchema, Failure> {
    let rows = connection.query(LOOK, &[], limit)?;
    let row = rows.first().ok_or_else(|| Failure::Setup("it shows no catalogs".to_owned()))?;
    let (encoding, version): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    if encoding != "UTF8" {
        return Err(Failure::Encoding(encoding));
    }
    if version < OLDEST_VERSION {
        let version = version / 10_000;
        return Err(Failure::Setup(format!("it is PostgreSQL {version}, and 14 is the oldest that works")));
    }
    if row.try_get(10)? {
        return Err(Failure::Setup("it is a standby; give the address of the primary, or target_session_attrs=read-write with all addresses".to_owned()));
    }
    Ok(SeenSchema {
        has_models: row.try_get(2)?,
        has_epochs: row.try_get(3)?,
        has_columns: row.try_get(4)?,
        has_epoch_columns: row.try_get(5)?,
        sequence_cache: row.try_get(6)?,
        number_trigger: row.try_get(7)?,
        notify_trigger: row.try_get(8)?,
        has_the_rest: row.try_get(9)?,
    })
}

/// Returns whether the schema is complete. Returns an error if a part exists that must not be used.
fn is_complete(seen: &SeenSchema) -> Result<bool, Failure> {
    let refused = |why: &str| Err(Failure::Setup(why.to_owned()));
    match (seen.has_models, seen.has_epochs) {
        (true, false) => {
            return refused(
                "its table models belongs to another program: the table ninetabs_epochs is missing",
            );
        }
        (false, true) => return refused("its table models is missing, and ninetabs_epochs is there"),
        (false, false) => {
            return match seen.sequence_cache {
                Some(cache) if cache != 1 => refused(CACHED),
                _ => Ok(false),
            };
        }
        (true, true) => {}
    }
    if !seen.has_columns || !seen.has_epoch_columns {
        return refused(
            "its tables are not those of this version: models needs id bigint, name text and created_at timestamptz, and ninetabs_epochs needs cluster, timeline, since and word",
        );
    }
    match seen.sequence_cache {
        Some(1) => {}
        Some(_) => return refused(CACHED),
        None => return refused("its sequence models_numbers is missing, so numbers would be assigned twice"),
    }
    match seen.number_trigger.as_deref() {
        Some("A") => {}
        Some(_) => {
            return refused(
                "its trigger number is disabled for some sessions, whose rows would get no number; run ALTER TABLE models ENABLE ALWAYS TRIGGER number",
            );
        }
        None => {
            return refused("its trigger number is missing, so that rows could become visible out of order");
        }
    }
    if seen.notify_trigger.as_deref() == Some("D") {
        log::warn!("the trigger notify of the table models is disabled: rows are found up to a second later");
    }
    Ok(seen.has_the_rest && seen.notify_trigger.is_some())
}

const CACHED: &str = "its sequence models_numbers has a cache, so that numbers would become visible out of order; run ALTER SEQUENCE models_numbers CACHE 1";
