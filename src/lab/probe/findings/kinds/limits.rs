//! The rows of the table for the kinds of limit.

use super::super::LimitKind;
use super::KindRow;

impl LimitKind {
    /// All kinds, in the order in which their rules are tried.
    pub const ALL: [LimitKind; 14] = [
        LimitKind::SessionLock,
        LimitKind::BlockedLoop,
        LimitKind::OneAtATime,
        LimitKind::DatabasePool,
        LimitKind::QueueTimeout,
        LimitKind::RefusedPerClient,
        LimitKind::Connections,
        LimitKind::Descriptors,
        LimitKind::Refused,
        LimitKind::Workers,
        LimitKind::StreamCapWaits,
        LimitKind::SharedSlots,
        LimitKind::Http2Streams,
        LimitKind::NoneFound,
    ];

    pub(super) fn row(self) -> KindRow {
        match self {
            LimitKind::SessionLock => KindRow::new(
                "session-lock",
                "Requests with the same session cookie wait for each other; another session is served.",
            ),
            LimitKind::BlockedLoop => KindRow::new(
                "blocked-loop",
                "The first stream delivers no event, and the server accepts no further connection: \
                 the stream's loop blocks the event loop.",
            ),
            LimitKind::OneAtATime => KindRow::new(
                "one-at-a-time",
                "One stream occupies the server: the next tab and the pages wait until it ends.",
            )
            .acts(&[1]),
            LimitKind::DatabasePool => KindRow::new(
                "database-pool",
                "Streams hold all database connections: further tabs and database pages fail after the \
                 pool's timeout.",
            )
            .acts(&[6]),
            LimitKind::QueueTimeout => KindRow::new(
                "queue-timeout",
                "Tabs and pages wait in a queue, which refuses them after a fixed time.",
            )
            .fix("cap")
            .command("ninetabs serve --fix cap"),
            LimitKind::RefusedPerClient => KindRow::new(
                "refused-per-client",
                "A limit per client address: further tabs are refused, while tabs from another address are served.",
            )
            .fix("shared-worker"),
            LimitKind::Connections => KindRow::new(
                "connections",
                "Connections are limited: idle and keep-alive ones stop the pages as streams do.",
            )
            .fix("shared-worker")
            .command("ninetabs serve --max-connections 8"),
            LimitKind::Descriptors => KindRow::new(
                "descriptors",
                "The server's process has reached its descriptor limit.",
            )
            .command("ninetabs serve --max-connections 8"),
            LimitKind::Refused => {
                KindRow::new("refused", "A further stream is refused immediately, although nothing is waiting.")
                    .fix("cap")
                    .command("ninetabs serve --fix cap")
            }
            LimitKind::Workers => KindRow::new(
                "workers",
                "Streams hold all threads or processes: the next tab and the pages wait.",
            )
            .acts(&[1, 2])
            .fix("reaper"),
            LimitKind::StreamCapWaits => KindRow::new(
                "stream-cap-waits",
                "Streams have a limit or a pool of their own: the next one waits, and all pages answer.",
            )
            .fix("io-threads")
            .command("ninetabs serve --fix io-threads"),
            LimitKind::SharedSlots => KindRow::new(
                "shared-slots",
                "All tabs stream, but they take turns: the gap between events grows with the number of tabs.",
            )
            .fix("push"),
            LimitKind::Http2Streams => KindRow::new(
                "http2-streams",
                "One HTTP/2 connection carries no further stream, but a second connection does.",
            )
            .fix("shared-worker"),
            LimitKind::NoneFound => {
                KindRow::new("none-found", "All tabs stream at the same time, and every page answers.")
                    .acts(&[3])
            }
        }
    }
}
