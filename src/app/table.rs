//! The identity of a table: a number drawn at random when the table was made, which the adapter stores with
//! it.
//!
//! An id alone does not identify its table. Two databases that were made one after the other at the same path
//! have the same ids, so an entity tag or a cursor that outlives one of them must name the table.

use std::fmt;

/// A table's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table(i32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Table {
    /// A new number, which is not the default one.
    pub(super) fn draw() -> Table {
        Table(fastrand::i32(1..))
    }

    /// The number as an integer, for an atomic and for storage.
    pub(super) fn to_bits(self) -> i32 {
        self.0
    }

    pub(super) fn from_bits(bits: i32) -> Table {
        Table(bits)
    }
}
