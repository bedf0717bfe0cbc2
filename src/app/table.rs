//! Which table it is: a word drawn at random when it was made, and kept with it by the adapter.
//!
//! An id alone does not say of which table it is. Two databases that were made one after the other
//! at the same path give the same ids, so a tag or a cursor that outlives one has to name it.

use std::fmt;

/// A table's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table(i32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Table {
    /// A new word, which is not the default one.
    pub(super) fn draw() -> Table {
        Table(fastrand::i32(1..))
    }

    /// For an atomic, and for where it is kept.
    pub(super) fn to_bits(self) -> i32 {
        self.0
    }

    pub(super) fn from_bits(bits: i32) -> Table {
        Table(bits)
    }
}
