//! The words for states and events, defined once for the terminal, the reports, and the pages of both servers.
//!
//! The pages get [`STATES`] and [`EVENTS`] as JSON. `docs/glossary.md` explains the words; `tests/phrases.rs` lists the
//! phrases that they replace.

use serde_json::json;

macro_rules! table {
    ($(#[$table_doc:meta])* $table:ident; $($(#[$doc:meta])* $name:ident $key:literal $words:literal)*) => {
        $($(#[$doc])* pub const $name: &str = $words;)*
        $(#[$table_doc])*
        pub const $table: &[(&str, &str)] = &[$(($key, $name)),*];
    };
}

table! {
    /// Every state, with its name in the scripts of the pages as the key.
    STATES;
    /// A request that was accepted and that no thread has taken yet.
    WAITING "waiting" "waiting"
    /// Where waiting requests are.
    QUEUE "queue" "queue"
    /// A thread that serves a request.
    HELD "held" "held"
    /// A thread without a request.
    IDLE "idle" "idle"
    /// A tab whose stream is open.
    STREAMS "streams" "streams"
    /// One event sent.
    WRITE "write" "write"
    /// A write that waits for its reader.
    WRITE_BLOCKED "blocked" "write blocked"
    /// A client that has closed without its thread having noticed.
    CLIENT_GONE "gone" "client gone"
    /// The write by which the thread notices that the client has closed.
    WRITE_FAILED "failed" "write failed"
    /// A stream that was ended at its maximum age.
    REAPED "reaped" "reaped"
    /// A client between two connections.
    RECONNECTS "reconnects" "reconnects"
    /// A request that received its response.
    ANSWERED "answered" "answered"
    /// A request that was turned away.
    REFUSED "refused" "refused"
    /// A request that the browser holds back.
    IN_THE_BROWSER "browser" "in the browser"
    /// A connection without a request.
    SPARE_CONNECTION "spare" "spare connection"
    /// A period that is missing from the record.
    NOT_RECORDED "unrecorded" "not recorded"
    /// A tab whose page or stream has not arrived yet.
    LOADING "loading" "loading"
    CLOSED "closed" "closed"
    /// An action on its own thread, whose answer is written by a pool thread.
    ATTACHED "attached" "attached"
    /// An action on its own thread that continues without a pool thread and without a client.
    ORPHANED "orphaned" "orphaned"
    /// The verdicts.
    AS_EXPECTED "expected" "As expected ✓"
    NOT_AS_EXPECTED "unexpected" "Not as expected ✗"
}

table! {
    /// The log line for each kind of event. [`line()`] fills in the parts in braces.
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
    /// The stream noticed on its socket, while it slept, that the client had closed. No write failed.
    SEEN_CLOSED "seen_closed" "{thread} saw that the client of {name} closed ({error})"
    REAPED_AT "reaped" "{name} was reaped at {time}: {why}"
    PANICKED "panicked" "the action of {name} panicked: {message}"
    LEFT "left" "{name} was not answered: its client closed while it was queued"
    ANSWERED_IN "answered" "{name} was answered by {thread} in {time}"
    CLIENT_CLOSED "client_closed" "{name}: its client closed"
    ACTION_BEGAN "action_began" "the action of {name} runs on {action}"
    ACTION_ORPHANED "action_orphaned" "{action} is orphaned: {name} continues without a client"
    ACTION_ENDED "action_ended" "{action} ended: {name}"
    ORDERED "ordered" "order: {text}"
    DATABASE "database" "database: {text}"
    /// A stream's answer ended.
    ENDED "ended" "{name} ended after {time}, {thread} freed"
}

/// A table as one JSON object.
pub fn json(table: &[(&str, &str)]) -> String {
    let entries = table.iter().map(|(key, words)| format!("{}:{}", json!(key), json!(words)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// Fills in the placeholders of one of [`EVENTS`]. Braces in a part are not expanded, because the part may come from a client.
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
            assert_eq!(sent.len(), table.len(), "a key appears more than once");
            assert!(table.iter().all(|(key, words)| sent[*key] == *words));
        }
    }

    #[test]
    fn placeholders_within_a_part_are_not_filled_in() {
        let parts: [(&str, &dyn std::fmt::Display); 2] = [("name", &"{why}"), ("why", &7)];
        assert_eq!(line("{name}: {why}", &parts), "{why}: 7");
        assert_eq!(line("a {b} c", &parts), "a  c");
    }
}
