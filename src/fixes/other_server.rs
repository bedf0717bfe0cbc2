//! `other-server`: the streams are on a second server, with a pool of its own.
//!
//! The seed's own thought, and websockets-rails' way. Nothing changes but where the page asks for
//! its stream; the two servers share nothing but the database. So what is full there is not
//! full here.

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "other-server",
    does: "the streams are on a second server, with a pool of its own",
    view: ("fixes/other-server.html", include_str!("../../views/fixes/other-server.html")),
    is_on: |fixes| fixes.server.streams_at.is_some(),
    ..PLAIN
};
