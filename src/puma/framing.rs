//! Framing: how the bytes of a body are told apart from what follows them.

/// How the bytes after the head are told apart from what follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body belongs to this answer.
    None,
    Counted(usize),
    Chunked,
    /// HTTP/1.0: the body lasts until the connection ends.
    UntilClose,
}
