//! The words for states and events, once for the terminal, the reports, and the pages of both servers.
//!
//! The pages get [`STATES`] and [`EVENTS`] as JSON. `docs/glossary.md` explains the words; `tests/phrases.rs` has the
//! ones that they replace.

use serde_json::json;

macro_rules! table {
    ($(#[$table_doc:meta])* $table:ident; $($(#[$doc:meta])* $name:ident $key:literal $words:literal)*) => {
        $($(#[$doc])* pub const $name: &str = $words;)*
        $(#[$table_doc])*
        pub const $table: &[(&str, &str)] = &[$(($key, $name)),*];
    };
}

table! {
    /// Every state by its name in the pages' scripts.
    STATES;
    /// A request that was accepted, before a thread takes it.
    WAITING "waiting" "waiting"
    /// The place where it waits.
    QUEUE "queue" "queue"
    /// A thread that serves a request.
    HELD "held" "held"
    /// A thread without a request.
    IDLE "idle" "idle"
    /// A tab whose stream is open.
    STREAMS "streams" "streams"
    /// One event sent.
    WRITE "write" "write"
    /// A write that its reader delays.
    WRITE_BLOCKED "blocked" "write blocked"
    /// A client that has closed, while its thread does not know.
    CLIENT_GONE "gone" "client gone"
    /// The write by which the thread learns it.
    WRITE_FAILED "failed" "write failed"
    /// A stream that was ended at its maximum age.
    REAPED "reaped" "reaped"
    /// A client between two connections.
    RECONNECTS "reconnects" "reconnects"
    /// A request that got its response.
    ANSWERED "answered" "answered"
    /// A request that was turned away.
    REFUSED "refused" "refused"
    /// A request that the browser holds back.
    IN_THE_BROWSER "browser" "in the browser"
    /// A connection without a request.
    SPARE_CONNECTION "spare" "spare connection"
    /// What the record lacks.
    NOT_RECORDED "unrecorded" "not recorded"
    /// A tab that is on its way.
    LOADING "loading" "loading"
    CLOSED "closed" "closed"
    /// An action on a thread of its own whose answer a pool thread writes.
    ATTACHED "attached" "attached"
    /// An action on a thread of its own that goes on without a pool thread and without a client.
    ORPHANED "orphaned" "orphaned"
    /// The verdicts.
    AS_EXPECTED "expected" "As expected ✓"
    NOT_AS_EXPECTED "unexpected" "Not as expected ✗"
}

table! {
    /// The line for a moment in a log, by the kind of the moment. [`line()`] fills in the parts in braces.
    EVENTS;
    SPAWNED "spawned" "{thread} started"
    EXITED "exited" "{thread} ended"
    WAITS "accepted" "{name} waits in the queue"
    WITHDRAWN "withdrawn" "{name} was evicted from the queue: there are too many connections"
    REJECTED "rejected" "{name} was refused with {status}: {why}"
    STARTED "started" "{thread} took {name} after {time} in the queue"
    IO_BOUND "marked_io_bound" "{name} was marked IO-bound: {thread} no longer counts"
    STREAMING "streaming" "{name} streams on {thread}"
    BLOCKED "blocked" "a write to {name} was blocked for {time}"
    DISCONNECTED "disconnected" "write {write} to {name} failed ({error}) on {thread}"
    /// A close that the stream saw on its socket while it slept, so that no write failed.
    SEEN_CLOSED "seen_closed" "{thread} saw that the client of {name} closed ({error})"
    REAPED_AT "reaped" "{name} was reaped at {time}: {why}"
    PANICKED "panicked" "the action of {name} panicked: {message}"
    LEFT "left" "{name} was not answered: its client closed while it waited"
    ANSWERED_IN "answered" "{name} was answered by {thread} in {time}"
    CLIENT_CLOSED "client_closed" "{name}: its client closed"
    ACTION_BEGAN "action_began" "the action of {name} runs on {action}"
    ACTION_ORPHANED "action_orphaned" "{action} is orphaned: {name} goes on without a client"
    ACTION_ENDED "action_ended" "{action} ended: {name}"
    ORDERED "ordered" "order: {text}"
    /// The answer of a stream.
    ENDED "ended" "{name} ended after {time}, {thread} freed"
}

/// A table as one JSON object.
pub fn json(table: &[(&str, &str)]) -> String {
    let entries = table.iter().map(|(key, words)| format!("{}:{}", json!(key), json!(words)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// One of [`EVENTS`] with its parts. Braces in a part stay as they are: a client may have sent them.
pub fn line(words: &str, parts: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut pieces = words.split('{');
    let mut line = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once('}').unwrap_or_default();
        if let Some((_, part)) = parts.iter().find(|(it, _)| *it == name) {
            line.push_str(&part.to_string());
        }
        line.push_str(rest);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_tables_are_sent_as_json() {
        for table in [STATES, EVENTS] {
            let sent: BTreeMap<String, String> = serde_json::from_str(&json(table)).unwrap();
            assert_eq!(sent.len(), table.len(), "each key once");
            assert!(table.iter().all(|(key, words)| sent[*key] == *words));
        }
    }

    #[test]
    fn a_line_is_filled_in_once() {
        let parts: [(&str, &dyn std::fmt::Display); 2] = [("name", &"{why}"), ("why", &7)];
        assert_eq!(line("{name}: {why}", &parts), "{why}: 7");
        assert_eq!(line("a {b} c", &parts), "a  c");
    }
}
