//! Converts rows of the table to models.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::super::Failure;
use crate::app::batch::{Batch, Filling, Limit, cut};
use crate::app::model::{MAX_NAME_BYTES, Model};
use crate::timestamp;

/// The columns of every query for models. The engine cuts a name that is too long. The limit is in bytes, and
/// as many characters are at least that long.
macro_rules! select_models {
    ($rest:literal) => {
        concat!(
            "SELECT id, CASE WHEN octet_length(name) <= 16384 THEN name ELSE left(name, 16384) END, created_at ",
            "FROM models ",
            $rest
        )
    };
}
pub(super) use select_models;

const _: () = assert!(MAX_NAME_BYTES == 16_384, "select_models! contains this number too");

/// How many rows a query asks for: one more shows whether there are more.
pub(super) fn one_more(limit: Limit) -> i64 {
    i64::from(limit.rows.max(1)).saturating_add(1)
}

/// The rows of a `select_models!` query, up to the limit. The query must have asked for [`one_more`].
pub(super) fn batch_of(rows: &[Row], limit: Limit) -> Result<Batch, Failure> {
    let mut batch = Filling::up_to(limit);
    for row in rows {
        let PgMicros(time_us) = row.try_get::<_, Option<PgMicros>>(2)?.unwrap_or(PgMicros(0));
        let name = row.try_get::<_, Option<&str>>(1)?.unwrap_or_default();
        let model =
            Model { id: row.try_get(0)?, name: cut(name), created_at: timestamp::from_micros(time_us) };
        if batch.is_full() || !batch.add(Some(model), time_us) {
            return Ok(batch.partial());
        }
    }
    Ok(batch.whole())
}

/// A time in microseconds since 1970. PostgreSQL counts from 2000, and has infinite times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PgMicros(pub i64);

/// From 1970 to 2000.
const EPOCH_US: i64 = 946_684_800_000_000;
/// The limits of the times that PostgreSQL can store, in microseconds since 2000.
const FIRST_US: i64 = -211_813_488_000_000_000;
const END_US: i64 = 9_223_371_331_200_000_000;

impl<'a> FromSql<'a> for PgMicros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(PgMicros(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_US)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for PgMicros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(match self.0.saturating_sub(EPOCH_US) {
            us if us < FIRST_US => i64::MIN,
            us if us >= END_US => i64::MAX,
            us => us,
        });
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
