//! The limit on one query: a number of rows, and a number of bytes of names.
//!
//! Other programs may write to the table, so a count of rows does not bound memory: ten rows can
//! be 200 MB. Every query for models therefore ends at a [`Limit`], and an adapter cuts a name longer than
//! [`MAX_NAME_BYTES`] where it reads it. Names are counted as they are sent, since JSON and HTML
//! make up to seven bytes of one.

use std::sync::Arc;

use super::model::{MAX_NAME_BYTES, Model};

/// The most bytes of names, as they are sent, that one query brings.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Where a query ends. It brings at least one row if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rows: u32,
    /// Bytes of names as they are sent.
    pub bytes: usize,
}

impl Limit {
    /// At most so many rows, and [`MAX_BATCH_BYTES`].
    pub const fn rows(rows: u32) -> Limit {
        Limit { rows, bytes: MAX_BATCH_BYTES }
    }
}

/// The most models in one event, and in one answer of a poll. A stream that ends in the middle of an event
/// has to send the whole event again, so one event for a long absence might never arrive.
pub const BATCH: Limit = Limit::rows(50);
/// The most models in one announcement, and the most bytes of their names as they are sent. It bounds
/// what is kept for a listener that does not read.
pub const PIECE: Limit = Limit { rows: BATCH.rows, bytes: 64 * 1024 };

/// The models that one query brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub models: Vec<Model>,
    /// Whether the query ended by itself and not at its limit.
    pub is_all: bool,
    /// When the last one was created, in microseconds as stored: a model's own time is kept within the
    /// years that have a text form.
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

    /// Whether it has as many rows as it may have, so that the next one need not be read.
    pub fn is_full(&self) -> bool {
        let rows = self.batch.models.len();
        rows > 0 && rows >= self.limit.rows as usize
    }

    /// Adds a row: its model, if it is one, and its time as stored. Answers whether it fits into the limit
    /// of bytes; if not, it is left out.
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

/// How many bytes a name takes at most where it is sent: as JSON, or as HTML in the lines of an event.
fn sent_bytes(name: &str) -> usize {
    let sent = |byte| match byte {
        // HTML leaves them, and an event begins its next line with `data: `.
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

/// A text of at most [`MAX_NAME_BYTES`]: U+FFFD is longer than the byte that it stands for.
pub(super) fn cut(text: &str) -> Arc<str> {
    let end = (0..=text.len().min(MAX_NAME_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].into()
}
