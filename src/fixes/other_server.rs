//! `other-server`: the streams are on a second server, with a pool of its own.
//!
//! An idea of the article, and what websockets-rails does. The page requests its stream from another address;
//! nothing else changes. The two servers share only the database, so that a full pool there does not affect
//! this server.

use super::commands::for_a_shell;
use super::{DatabasePlace, Fix, FixGroup, PLAIN, embedded};

pub(super) const FIX: Fix = Fix {
    name: "other-server",
    does: "A second server with its own pool serves the streams.",
    group: FixGroup::MoveTheLimit,
    measured_as: "other-server",
    has_beside: false,
    view: embedded!("fixes/other-server.html"),
    is_on: |fixes| fixes.server.streams_at.is_some(),
    ..PLAIN
};

/// The second server's address, unless `--streams-at` names another one.
pub const STREAMS_AT: &str = "http://127.0.0.1:9294";

/// The file of both servers. They must share one to see each other's models.
pub(super) fn shared(database: &DatabasePlace) -> DatabasePlace {
    match database {
        DatabasePlace::Memory => DatabasePlace::from("FILE"),
        shared => shared.clone(),
    }
}

/// The command that starts a server at `streams_at` for pages of these origins, separated by commas.
pub fn command(streams_at: &str, pages: &str, database: &DatabasePlace) -> String {
    let authority = streams_at.split_once("://").map_or(streams_at, |(_, authority)| authority);
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let bind = port.map_or_else(|| format!("{authority}:80"), |_: u16| authority.to_owned());
    // Its control server uses the next port.
    let control = port.unwrap_or(80).checked_add(1).unwrap_or_default();
    format!(
        "ninetabs serve --bind tcp://{bind} --control-url tcp://127.0.0.1:{control} --database {} --allow-origin {}",
        for_a_shell(&shared(database).to_string()),
        for_a_shell(pages)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_both_addresses_the_database_and_every_origin() {
        let pages = "http://127.0.0.1:9292,http://*.localhost:9292";
        assert_eq!(
            command(STREAMS_AT, pages, &"a.sqlite3".into()),
            "ninetabs serve --bind tcp://127.0.0.1:9294 --control-url tcp://127.0.0.1:9295 --database a.sqlite3 \
             --allow-origin 'http://127.0.0.1:9292,http://*.localhost:9292'"
        );
        // A client can send any `Host`.
        let hostile = command(STREAMS_AT, "http://a';touch$IFS$9x;'.localhost", &"a".into());
        assert!(hostile.ends_with(r"--allow-origin 'http://a'\'';touch$IFS$9x;'\''.localhost'"), "{hostile}");
        assert!(command("http://streams.test", pages, &"a".into()).contains("--bind tcp://streams.test:80 "));
        assert!(
            command("http://[::1]:65535", pages, &":memory:".into()).contains("127.0.0.1:0 --database FILE ")
        );
    }

    #[test]
    fn a_path_is_one_argument_when_the_command_is_pasted_into_a_shell() {
        for path in [
            "a b.sqlite3",
            "it's",
            "$HOME/`id`",
            "a;b",
            "~",
            "a\"b",
            "ü",
            "*",
            "a\\b",
            "a\nb",
            "-x",
            "/tmp/a",
        ] {
            let text = command(STREAMS_AT, "http://a.test", &path.into());
            let shown = format!("set -- {text}; printf %s \"$7,${{8}},$9\"");
            let shell = std::process::Command::new("sh").args(["-c", &shown]).output().unwrap();
            let seen = String::from_utf8(shell.stdout).unwrap();
            assert_eq!(seen, format!("--database,{path},--allow-origin"), "{text}");
        }
    }
}
