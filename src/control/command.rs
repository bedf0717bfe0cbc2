//! The commands of pumactl, as segments of a path.
//!
//! Models Puma::App::Status: the last segment of the path is the command, with any prefix and any method,
//! since pumactl only sends `GET`. Commands that Puma has and this server lacks are recognized by name, so
//! that the answer says that they are unavailable, not unknown.

use super::guard::Asks;

/// A command of pumactl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PumaCommand {
    Stats,
    ThreadBacktraces,
    Stop,
    Halt,
    /// A command that this server lacks, with its name in the answer, which Puma writes with underscores.
    Unavailable(&'static str),
}

impl PumaCommand {
    /// The command that a path names, if it is one of pumactl's.
    pub(super) fn of(path: &str) -> Option<PumaCommand> {
        Some(match path.rsplit_once('/')?.1 {
            "stats" => PumaCommand::Stats,
            "thread-backtraces" => PumaCommand::ThreadBacktraces,
            "stop" => PumaCommand::Stop,
            "halt" => PumaCommand::Halt,
            "restart" => PumaCommand::Unavailable("restart"),
            "phased-restart" => PumaCommand::Unavailable("phased_restart"),
            "refork" => PumaCommand::Unavailable("refork"),
            "reload-worker-directory" => PumaCommand::Unavailable("reload_worker_directory"),
            // This program runs without a garbage collector, so numbers of one do not exist.
            "gc" => PumaCommand::Unavailable("gc"),
            "gc-stats" => PumaCommand::Unavailable("gc-stats"),
            _ => return None,
        })
    }

    /// Unavailable commands count as changes, except for the numbers of the garbage collector.
    pub(super) fn asks(self) -> Asks {
        match self {
            PumaCommand::Stats | PumaCommand::ThreadBacktraces | PumaCommand::Unavailable("gc-stats") => {
                Asks::ToLook
            }
            PumaCommand::Stop | PumaCommand::Halt | PumaCommand::Unavailable(_) => Asks::ToChange,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_is_the_command() {
        for (path, command) in [
            ("/stats", Some(PumaCommand::Stats)),
            ("/x/y/stats", Some(PumaCommand::Stats)),
            ("//halt", Some(PumaCommand::Halt)),
            ("/thread-backtraces", Some(PumaCommand::ThreadBacktraces)),
            ("/phased-restart", Some(PumaCommand::Unavailable("phased_restart"))),
            ("/stats/", None),
            ("/stats/x", None),
            ("/Stats", None),
            ("/", None),
            ("stop", None),
            ("*", None),
        ] {
            assert_eq!(PumaCommand::of(path), command, "{path}");
        }
    }

    #[test]
    fn only_what_shows_something_is_a_look() {
        let looks = ["/stats", "/thread-backtraces", "/gc-stats"];
        let changes =
            ["/stop", "/halt", "/restart", "/phased-restart", "/refork", "/gc", "/reload-worker-directory"];
        assert!(looks.iter().all(|path| PumaCommand::of(path).unwrap().asks() == Asks::ToLook));
        assert!(changes.iter().all(|path| PumaCommand::of(path).unwrap().asks() == Asks::ToChange));
    }
}
