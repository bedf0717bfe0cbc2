//! The limit on one query: a number of rows, and a number of bytes of names.
//!
//! Other programs may write to the table, so a count of rows does not bound memory: ten rows can be 200 MB.
//! Every query for models therefore ends at a [`Limit`], and an adapter truncates a name longer than
//! [`MAX_NAME_BYTES`] when reading it. Names are counted as they are sent, since one byte can become up to
//! seven in JSON or HTML.

use std::sync::Arc;

use super::model::{MAX_NAME_BYTES, Model};

/// Maximum bytes of names, as they are sent, that one query returns.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The limit at which a query ends. The query returns at least one row if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rows: u32,
    /// Bytes of names as they are sent.
    pub bytes: usize,
}

impl Limit {
    /// A limit of this many rows and of [`MAX_BATCH_BYTES`].
    pub const fn rows(rows: u32) -> Limit {
        Limit { rows, bytes: MAX_BATCH_BYTES }
    }
}

/// Maximum number of models in one event, and in one answer of a poll. If a stream is cut off in the middle
/// of an event, the whole event is sent again. A single event with all models since a long absence might
/// therefore never arrive completely.
pub const BATCH: Limit = Limit::rows(50);
/// Maximum number of models in one announcement, and of bytes of their names as they are sent. It bounds the
/// memory for a stalled reader.
pub const PIECE: Limit = Limit { rows: BATCH.rows, bytes: 64 * 1024 };

/// The models that one query returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub models: Vec<Model>,
    /// Whether the batch has all rows of the query. If not, the query ended at its limit.
    pub is_all: bool,
    /// The last model's time of creation in microseconds, as stored. The time in the model itself is clamped
    /// to the years that have a text form.
    pub last_us: i64,
}

impl Batch {
    /// The last model's id.
    pub fn last_id(&self) -> Option<i64> {
        self.models.last().map(|model| model.id)
    }
}

/// A batch that is filled row by row, in an adapter.
pub(super) struct Filling {
    batch: Batch,
    bytes: usize,
    limit: Limit,
}

impl Filling {
    pub fn up_to(limit: Limit) -> Filling {
        Filling { batch: Batch::default(), bytes: 0, limit }
    }

    /// Whether it has the maximum number of rows, so that the next one need not be read.
    pub fn is_full(&self) -> bool {
        let rows = self.batch.models.len();
        rows > 0 && rows >= self.limit.rows as usize
    }

    /// Adds a row: its model, if it has one, and its time as stored. Returns false, without adding the row,
    /// if it would exceed the limit of bytes.
    pub fn add(&mut self, model: Option<Model>, time_us: i64) -> bool {
        self.bytes += model.as_ref().map_or(0, |model| sent_bytes(&model.name));
        if !self.batch.models.is_empty() && self.bytes > self.limit.bytes {
            return false;
        }
        self.batch.models.extend(model);
        self.batch.last_us = time_us;
        true
    }

    /// The batch, if the query has more rows.
    pub fn partial(self) -> Batch {
        self.batch
    }

    /// The batch, if it has all rows of the query.
    pub fn whole(self) -> Batch {
        Batch { is_all: true, ..self.batch }
    }
}

/// An upper bound on the bytes that a name takes as JSON, or as HTML in the lines of an event.
fn sent_bytes(name: &str) -> usize {
    let sent = |byte| match byte {
        // HTML does not escape line breaks, and an event begins each further line with `data: `.
        b'\n' | b'\r' => 7,
        // \u0000, &quot;, &#x27; and &#x2f;
        0..0x20 | b'"' | b'\'' | b'/' => 6,
        b'&' => 5,
        b'<' | b'>' => 4,
        b'\\' => 2,
        _ => 1,
    };
    name.bytes().map(sent).sum()
}

/// Truncates a text to [`MAX_NAME_BYTES`]. The conversion may have lengthened it, since U+FFFD is longer
/// than the byte that it replaces.
pub(super) fn cut(text: &str) -> Arc<str> {
    let end = (0..=text.len().min(MAX_NAME_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].into()
}
