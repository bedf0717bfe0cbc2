//! `compare --servers N`: checks the flags, and puts the setup of the servers into words.

use clap::ValueEnum;
use serde::Serialize;

use super::CompareArgs;
use crate::cli::NO_POSTGRESQL;
use crate::lab::cluster::{haproxy, postgres};
use crate::lab::compare::contenders::{self, Contender};
use crate::lab::compare::several::servers::SharedDatabase;
use crate::lab::compare::several::{Several, SharedEngine};

/// The engine of the database that the servers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompareEngine {
    /// A private PostgreSQL in a temporary folder.
    Postgresql,
    /// A file in a temporary folder.
    Sqlite3,
}

impl From<CompareEngine> for SharedEngine {
    fn from(engine: CompareEngine) -> SharedEngine {
        match engine {
            CompareEngine::Postgresql => SharedEngine::Postgresql,
            CompareEngine::Sqlite3 => SharedEngine::Sqlite3,
        }
    }
}

/// The servers of each row, and why they do not share a PostgreSQL if `--engine` does not say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivenServers {
    pub several: Several,
    pub without_postgresql: Option<&'static str>,
}

/// What `--json` prints about several servers.
#[derive(Debug, Serialize)]
pub(super) struct ServersInJson {
    servers: usize,
    engine: &'static str,
    balancer: Option<&'static str>,
    /// The fixes whose tabs hold a thread, which are not measured.
    left_out: Vec<&'static str>,
}

/// The servers that were asked for; `None` if each fix is measured on one server. The error is one line about the flags.
pub(super) fn given(args: &CompareArgs) -> Result<Option<GivenServers>, String> {
    if args.servers == 1 {
        return match args.engine {
            None => Ok(None),
            Some(_) => Err("--engine is for servers that share a database; give --servers 2 or more, or leave out --engine".to_owned()),
        };
    }
    let holds_threads = |it: &&Contender| !it.bears_many() && args.only.iter().any(|name| name == it.name);
    if let Some(contender) = contenders::ALL.iter().find(holds_threads) {
        return Err(format!(
            "--only {name}: the tabs of {name} hold threads, so it is not measured on several servers; leave out {name} or --servers",
            name = contender.name
        ));
    }
    // The servers of --program may support PostgreSQL even if this program does not.
    let supports_postgresql = cfg!(feature = "postgresql") || args.program.is_some();
    let (engine, without_postgresql) = match args.engine {
        Some(CompareEngine::Postgresql) if !supports_postgresql => {
            return Err(format!("--engine postgresql: {NO_POSTGRESQL}, or give --engine sqlite3"));
        }
        Some(engine) => (engine.into(), None),
        None if !supports_postgresql => {
            (SharedEngine::Sqlite3, Some("This build does not support PostgreSQL, so SQLite is used."))
        }
        None if postgres::installed().is_none() => {
            (SharedEngine::Sqlite3, Some("PostgreSQL is not installed, so SQLite is used."))
        }
        None => (SharedEngine::Postgresql, None),
    };
    let several = Several { servers: args.servers.into(), engine };
    Ok(Some(GivenServers { several, without_postgresql }))
}

impl GivenServers {
    /// How the servers are set up, in sentences.
    pub fn notes(&self, args: &CompareArgs, database: &SharedDatabase) -> Vec<String> {
        let (servers, database) = (self.several.servers, database.description());
        let setup = match haproxy::installed() {
            Some(_) => format!("{servers} servers share {database}, behind HAProxy."),
            None => format!(
                "{servers} servers share {database}. HAProxy is not installed, so each tab keeps the address of one server, \
                 and the killed server is started again."
            ),
        };
        let left_out = left_out(args);
        let left_out = (!left_out.is_empty()).then(|| {
            format!(
                "Not measured on several servers, because their tabs hold threads: {}.",
                left_out.join(", ")
            )
        });
        let without = self.without_postgresql.map(str::to_owned);
        [Some(setup), without, left_out].into_iter().flatten().collect()
    }

    pub fn in_json(&self, args: &CompareArgs) -> ServersInJson {
        ServersInJson {
            servers: self.several.servers,
            engine: self.several.engine.name(),
            balancer: haproxy::installed().map(|_| "haproxy"),
            left_out: left_out(args),
        }
    }
}

/// The rows that were not named and are not measured.
fn left_out(args: &CompareArgs) -> Vec<&'static str> {
    let all = contenders::ALL.iter().filter(|it| args.only.is_empty() && !it.bears_many());
    all.map(|it| it.name).collect()
}
