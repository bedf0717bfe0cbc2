//! The rows of the table for the kinds of note.

use super::super::NoteKind;
use super::KindRow;

impl NoteKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [NoteKind; 21] = [
        NoteKind::Buffered,
        NoteKind::Quiet,
        NoteKind::Compressed,
        NoteKind::Lumps,
        NoteKind::LateFirstEvent,
        NoteKind::Grows,
        NoteKind::Cut,
        NoteKind::SlotReturn,
        NoteKind::Leak,
        NoteKind::ZombiesStay,
        NoteKind::ZombiesFreed,
        NoteKind::SeveralQueues,
        NoteKind::QueueFull,
        NoteKind::AcceptQueue,
        NoteKind::Cached,
        NoteKind::StatsDisagree,
        NoteKind::StatsSilent,
        NoteKind::BrowsersSix,
        NoteKind::OwnLimit,
        NoteKind::NotAStream,
        NoteKind::Unreachable,
    ];

    pub(super) fn row(self) -> KindRow {
        match self {
            NoteKind::Buffered => KindRow::new(
                "buffered",
                "The server runs streams whose events are held back on their way to the client.",
            )
            .acts(&[7]),
            NoteKind::Quiet => KindRow::new(
                "quiet",
                "The first event arrives alone, after more than 12 s: the application had nothing to send.",
            ),
            NoteKind::Compressed => {
                KindRow::new("compressed", "The stream delivers no event if the client accepts compression.")
            }
            NoteKind::Lumps => {
                KindRow::new("lumps", "The body arrives in buffer-sized pieces, not event by event.")
            }
            NoteKind::LateFirstEvent => KindRow::new(
                "late-first-event",
                "The first event of each tab arrives after the same delay, even on an idle server.",
            ),
            NoteKind::Grows => KindRow::new(
                "grows",
                "Some tabs or pages took longer while the server started threads or processes.",
            )
            .command("ninetabs serve --threads 0:8"),
            NoteKind::Cut => {
                KindRow::new("cut", "The server ended streams at the same age.").acts(&[5]).fix("reaper")
            }
            NoteKind::SlotReturn => KindRow::new(
                "slot-return",
                "How long it takes until a closed stream's slot serves another tab.",
            )
            .acts(&[2])
            .fix("reaper"),
            NoteKind::Leak => {
                KindRow::new("leak", "The server did not recover after all clients had left.").acts(&[4, 7])
            }
            NoteKind::ZombiesStay => KindRow::new(
                "zombies-stay",
                "Clients that stopped reading kept their slots for as long as they were watched.",
            )
            .acts(&[4]),
            NoteKind::ZombiesFreed => {
                KindRow::new("zombies-freed", "The server freed the slots of clients that stopped reading.")
                    .acts(&[4])
            }
            NoteKind::SeveralQueues => KindRow::new(
                "several-queues",
                "Requests wait in several queues: one can be full while another is free.",
            )
            .fix("other-server"),
            NoteKind::QueueFull => {
                KindRow::new("queue-full", "The queue is full: it refuses the next request.").acts(&[4])
            }
            NoteKind::AcceptQueue => KindRow::new(
                "accept-queue",
                "The kernel's accept queue is full: a further connection does not complete.",
            )
            .acts(&[4]),
            NoteKind::Cached => {
                KindRow::new("cached", "A cache answers in place of the application.").fix("poll")
            }
            NoteKind::StatsDisagree => KindRow::new(
                "stats-disagree",
                "The server's statistics report free capacity while the next tab waits.",
            )
            .acts(&[6]),
            NoteKind::StatsSilent => {
                KindRow::new("stats-silent", "The server's statistics did not answer at the limit.")
            }
            NoteKind::BrowsersSix => KindRow::new(
                "browsers-six",
                "Tabs of one browser stop at six streams on any server that speaks HTTP/1.1.",
            )
            .acts(&[3]),
            NoteKind::OwnLimit => {
                KindRow::new("own-limit", "The probing machine ran out of descriptors or ports.")
            }
            NoteKind::NotAStream => KindRow::new(
                "not-a-stream",
                "The response ended without an event, or cannot be read as a stream.",
            ),
            NoteKind::Unreachable => {
                KindRow::new("unreachable", "The server did not accept a connection, or did not answer.")
            }
        }
    }
}
