//! The servers of one row, the database that they share, and the balancer.
//!
//! All of them end with this process, however it ends. Starting blocks until each server listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::lab::cluster::haproxy::HaProxy;
use crate::lab::cluster::postgres::PrivatePostgres;
use crate::lab::compare::contenders::Contender;
use crate::lab::compare::listeners::Endpoint;
use crate::lab::compare::{CompareError, ComparePlan, THREADS};
use crate::lab::interrupt::Interrupt;
use crate::lab::scratch::Scratch;
use crate::lab::stage::in_seconds;
use crate::lab::subject::{FREE_PORT, Launch, SubjectError, TestedServer};

use super::{Several, SharedEngine};

/// Removes the models of the previous row. The first row has no table yet.
const CLEAR: &str = "DO $$ BEGIN IF to_regclass('models') IS NOT NULL THEN TRUNCATE models; END IF; END $$";

/// The database that the servers of all rows share. Dropping it ends it.
pub enum SharedDatabase {
    Postgres(Box<PrivatePostgres>),
    /// Each row has its own file.
    Files,
}

impl SharedDatabase {
    /// Starts the engine, if it is a program of its own.
    pub fn start(engine: SharedEngine, interrupt: &Interrupt) -> Result<SharedDatabase, CompareError> {
        Ok(match engine {
            SharedEngine::Postgresql => {
                SharedDatabase::Postgres(Box::new(PrivatePostgres::start(interrupt)?))
            }
            SharedEngine::Sqlite3 => SharedDatabase::Files,
        })
    }

    /// A few words about it.
    pub fn description(&self) -> String {
        match self {
            SharedDatabase::Postgres(postgres) => format!("a private PostgreSQL {}", postgres.version()),
            SharedDatabase::Files => "an SQLite file".to_owned(),
        }
    }
}

/// Where the servers of a row store their models.
enum ModelsPlace {
    Url(String),
    File(PathBuf),
}

/// The servers of one row. Dropping this ends them.
pub struct SeveralServers<'a> {
    // Fields are dropped in this order, the balancer first and the folder last.
    haproxy: Option<HaProxy>,
    servers: Vec<TestedServer>,
    place: ModelsPlace,
    plan: &'a ComparePlan,
    flags: Vec<String>,
    interrupt: &'a Interrupt,
    _folder: Scratch,
}

impl<'a> SeveralServers<'a> {
    /// Starts the servers and, if it is installed, HAProxy.
    pub fn start(
        plan: &'a ComparePlan,
        several: Several,
        contender: &Contender,
        database: &SharedDatabase,
        interrupt: &'a Interrupt,
    ) -> Result<SeveralServers<'a>, CompareError> {
        let folder = Scratch::make("ninetabs")?;
        let place = match database {
            SharedDatabase::Postgres(postgres) => {
                postgres.execute(CLEAR, interrupt)?;
                ModelsPlace::Url(postgres.url())
            }
            SharedDatabase::Files => ModelsPlace::File(folder.path().join("models.sqlite3")),
        };
        let flags = flags(plan, contender);
        let mut all = SeveralServers {
            haproxy: None,
            servers: Vec::new(),
            place,
            plan,
            flags,
            interrupt,
            _folder: folder,
        };
        for _ in 0..several.servers {
            let server = all.launch(FREE_PORT)?;
            all.servers.push(server);
        }
        let addresses: Result<Vec<SocketAddr>, _> = all.servers.iter().map(address).collect();
        all.haproxy = HaProxy::start(&addresses?)?;
        Ok(all)
    }

    fn launch(&self, bind: &str) -> Result<TestedServer, SubjectError> {
        let (variables, file) = match &self.place {
            // A variable, because a URL may contain a password.
            ModelsPlace::Url(url) => (vec![("NINETABS_DATABASE", url.clone())], None),
            ModelsPlace::File(file) => (Vec::new(), Some(file.as_path())),
        };
        let (program, flags, variables) = (&*self.plan.program, &*self.flags, &*variables);
        TestedServer::launch(Launch { program, bind, database: file, flags, variables }, self.interrupt)
    }

    /// Where this tab connects: to the balancer, or else to the servers in turn. Counts from 1.
    pub fn endpoint(&self, tab: usize) -> Endpoint {
        match &self.haproxy {
            Some(haproxy) => Endpoint { url: haproxy.url(), server: None },
            None => {
                let number = (tab - 1) % self.servers.len() + 1;
                Endpoint { url: self.server(number).url(""), server: Some(number) }
            }
        }
    }

    pub fn has_balancer(&self) -> bool {
        self.haproxy.is_some()
    }

    /// All servers, the first of which has number 1.
    pub fn all(&self) -> &[TestedServer] {
        &self.servers
    }

    /// The server with this number, which counts from 1.
    pub fn server(&self, number: usize) -> &TestedServer {
        &self.servers[number - 1]
    }

    /// Sends SIGKILL to this server. Blocks until it has ended.
    pub fn kill(&mut self, number: usize) -> Result<(), CompareError> {
        self.servers[number - 1].kill().map_err(CompareError::NotKilled)
    }

    /// Starts this server again at its address, after it was killed.
    pub fn start_again(&mut self, number: usize) -> Result<(), CompareError> {
        let bind = self.server(number).bind();
        self.servers[number - 1] = self.launch(&bind)?;
        Ok(())
    }
}

fn address(server: &TestedServer) -> Result<SocketAddr, SubjectError> {
    server.url("").trim_start_matches("http://").parse().map_err(|_| SubjectError::NotReady)
}

/// The flags of each server. Models are created only through requests, so that each has a known server.
fn flags(plan: &ComparePlan, contender: &Contender) -> Vec<String> {
    let ours = [
        ("--update-rate", in_seconds(plan.pace.update_rate)),
        ("--produce-every", "off".to_owned()),
        ("--retry", in_seconds(plan.pace.retry)),
        ("--keep-models", "1000000".to_owned()),
        ("--threads", format!("{THREADS}:{THREADS}")),
    ];
    let ours = ours.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    (contender.flags)(plan).into_iter().chain(ours).collect()
}
