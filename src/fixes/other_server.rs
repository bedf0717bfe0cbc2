//! `other-server`: the streams are on a second server, with a pool of its own.
//!
//! The article's own idea, and what websockets-rails does. The page asks for its stream at another
//! address, and nothing else changes; the two servers share only the database, so a full pool there
//! leaves this one free.

use std::path::Path;

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "other-server",
    does: "the streams are on a second server, with a pool of its own",
    view: ("fixes/other-server.html", include_str!("../../views/fixes/other-server.html")),
    is_on: |fixes| fixes.server.streams_at.is_some(),
    ..PLAIN
};

/// Where the second server is expected, unless `--streams-at` names another address.
pub const STREAMS_AT: &str = "http://127.0.0.1:9294";

/// The command that starts a server at `streams_at` for the pages of these origins, which are
/// joined by commas.
pub fn command(streams_at: &str, pages: &str, database: &Path) -> String {
    let authority = streams_at.split_once("://").map_or(streams_at, |(_, authority)| authority);
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let bind = port.map_or_else(|| format!("{authority}:80"), |_: u16| authority.to_owned());
    // Its control server takes the next port.
    let control = port.unwrap_or(80).checked_add(1).unwrap_or_default();
    // Without a file of its own in common, two servers do not see each other's models.
    let database = if database == Path::new(":memory:") { Path::new("FILE") } else { database };
    format!(
        "ninetabs serve --bind tcp://{bind} --control-url tcp://127.0.0.1:{control} --database {} --allow-origin {}",
        for_a_shell(&database.display().to_string()),
        for_a_shell(pages)
    )
}

/// One argument of a shell command, in quotes if it needs them.
fn for_a_shell(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_both_addresses_the_database_and_every_origin() {
        let pages = "http://127.0.0.1:9292,http://*.localhost:9292";
        assert_eq!(
            command(STREAMS_AT, pages, Path::new("a.sqlite3")),
            "ninetabs serve --bind tcp://127.0.0.1:9294 --control-url tcp://127.0.0.1:9295 --database a.sqlite3 \
             --allow-origin 'http://127.0.0.1:9292,http://*.localhost:9292'"
        );
        // A `Host` is what its client made of it.
        let hostile = command(STREAMS_AT, "http://a';touch$IFS$9x;'.localhost", Path::new("a"));
        assert!(hostile.ends_with(r"--allow-origin 'http://a'\'';touch$IFS$9x;'\''.localhost'"), "{hostile}");
        assert!(
            command("http://streams.test", pages, Path::new("a")).contains("--bind tcp://streams.test:80 ")
        );
        assert!(
            command("http://[::1]:65535", pages, Path::new(":memory:"))
                .contains("127.0.0.1:0 --database FILE ")
        );
    }

    #[test]
    fn a_path_is_one_argument_in_the_shell_that_the_command_is_pasted_into() {
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
            let text = command(STREAMS_AT, "http://a.test", Path::new(path));
            let shown = format!("set -- {text}; printf %s \"$7,${{8}},$9\"");
            let shell = std::process::Command::new("sh").args(["-c", &shown]).output().unwrap();
            let seen = String::from_utf8(shell.stdout).unwrap();
            assert_eq!(seen, format!("--database,{path},--allow-origin"), "{text}");
        }
    }
}
