//! The commands of pumactl, as they stand in a path.
//!
//! Models Puma::App::Status: the last segment of the path is the command,
//! whatever stands before it, and any method counts, since pumactl knows only
//! `GET`. What Puma can do and this server cannot is known here by name, so that
//! whoever asks is told so and not that there is no such thing.

use super::guard::Asks;

/// What pumactl may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Stats,
    ThreadBacktraces,
    Stop,
    Halt,
    /// By the name that the answer gives it: Puma writes its own with underscores.
    Unavailable(&'static str),
}

impl Command {
    /// The command that a path asks for, if it is one of pumactl's.
    pub(super) fn of(path: &str) -> Option<Command> {
        Some(match path.rsplit_once('/')?.1 {
            "stats" => Command::Stats,
            "thread-backtraces" => Command::ThreadBacktraces,
            "stop" => Command::Stop,
            "halt" => Command::Halt,
            "restart" => Command::Unavailable("restart"),
            "phased-restart" => Command::Unavailable("phased_restart"),
            "refork" => Command::Unavailable("refork"),
            "reload-worker-directory" => Command::Unavailable("reload_worker_directory"),
            // Nothing is collected here, so nothing was counted.
            "gc" => Command::Unavailable("gc"),
            "gc-stats" => Command::Unavailable("gc-stats"),
            _ => return None,
        })
    }

    /// What is unavailable was asked for as a change, but for the numbers of a collector.
    pub(super) fn asks(self) -> Asks {
        match self {
            Command::Stats | Command::ThreadBacktraces | Command::Unavailable("gc-stats") => Asks::ToLook,
            Command::Stop | Command::Halt | Command::Unavailable(_) => Asks::ToChange,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_is_the_command() {
        for (path, command) in [
            ("/stats", Some(Command::Stats)),
            ("/x/y/stats", Some(Command::Stats)),
            ("//halt", Some(Command::Halt)),
            ("/thread-backtraces", Some(Command::ThreadBacktraces)),
            ("/phased-restart", Some(Command::Unavailable("phased_restart"))),
            ("/stats/", None),
            ("/stats/x", None),
            ("/Stats", None),
            ("/", None),
            ("stop", None),
            ("*", None),
        ] {
            assert_eq!(Command::of(path), command, "{path}");
        }
    }

    #[test]
    fn only_what_shows_something_is_a_look() {
        let looks = ["/stats", "/thread-backtraces", "/gc-stats"];
        let changes =
            ["/stop", "/halt", "/restart", "/phased-restart", "/refork", "/gc", "/reload-worker-directory"];
        assert!(looks.iter().all(|path| Command::of(path).unwrap().asks() == Asks::ToLook));
        assert!(changes.iter().all(|path| Command::of(path).unwrap().asks() == Asks::ToChange));
    }
}
