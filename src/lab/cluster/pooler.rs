//! PgBouncer in front of the private PostgreSQL, in transaction mode.
//!
//! It listens on a Unix socket in the folder of the engine's sockets, and runs as the user of the engine, because it
//! refuses to run as root. A shell kills it and removes its folder, however this process ends. Starting blocks until it
//! listens, for at most 30 s, or until the interrupt. Dropping kills it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::super::interrupt::{Interrupt, Interrupted};
use super::super::program::{Program, find};
use super::super::scratch::{Scratch, ScratchError};
use super::postgres::{DATABASE, PrivatePostgres, ROLE, last_words};

/// The folder in which packages install PgBouncer. It is not on every user's PATH.
const FOLDER: &str = "/usr/sbin";
/// The port in the name of its socket. The engine has another one.
const PORT: u16 = 6432;
/// The file of its settings, in its folder.
const SETTINGS: &str = "pgbouncer.ini";
/// How long it may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Kills it. If ninetabs was killed immediately after it had started PgBouncer, the process group is not known, but the
/// working folder of PgBouncer is the folder.
const END: &str = r#"[ -n "$group" ] && kill -s KILL -- "-$group"
for process in /proc/[0-9]*; do
  if [ "$process/cwd" -ef "$1" ]; then
    read -r name < "$process/comm"
    [ "$name" = pgbouncer ] && kill -s KILL "${process#/proc/}"
  fi
done"#;

/// Why PgBouncer could not be started.
#[derive(Debug, Error)]
pub enum PoolerError {
    #[error("interrupted")]
    Interrupted,
    #[error(
        "PgBouncer is not installed: install the package pgbouncer, or add the folder that contains it to PATH"
    )]
    NotInstalled,
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot write the settings of PgBouncer: {0}")]
    Prepare(io::Error),
    #[error("cannot run {}: {error}", .program.display())]
    NotRun { program: PathBuf, error: io::Error },
    #[error("{} ended with {status}: {said}", .program.display())]
    Ended { program: PathBuf, status: ExitStatus, said: String },
    #[error("{} did not listen within {START_WITHIN:?}", .program.display())]
    NotReady { program: PathBuf },
}

impl From<Interrupted> for PoolerError {
    fn from(Interrupted: Interrupted) -> Self {
        PoolerError::Interrupted
    }
}

/// The limits of a pooler.
#[derive(Debug, Clone, Copy)]
pub struct PoolerLimits {
    /// Connections to PostgreSQL.
    pub backends: usize,
    /// Connections of clients.
    pub clients: usize,
}

/// A running PgBouncer. Dropping it kills it.
#[derive(Debug)]
pub struct Pooler {
    // Fields are dropped in this order, the folder last.
    _running: Program,
    url: String,
    _folder: Scratch,
}

impl Pooler {
    /// Starts it in front of this engine.
    pub fn start(
        postgres: &PrivatePostgres,
        limits: PoolerLimits,
        interrupt: &Interrupt,
    ) -> Result<Pooler, PoolerError> {
        let program = installed().ok_or(PoolerError::NotInstalled)?;
        let sockets = postgres.sockets();
        let mut folder = Scratch::make_with_end("ninetabs-pooler", END)?;
        let log = folder.path().join("log");
        let mut command = postgres.command_of(&program);
        prepare(folder.path(), &settings(&sockets, limits)).map_err(PoolerError::Prepare)?;
        command.arg(folder.path().join(SETTINGS)).current_dir(folder.path());
        command.stderr(File::create(&log).map_err(PoolerError::Prepare)?);
        let not_run = |error| PoolerError::NotRun { program: program.clone(), error };
        let mut running = Program::start(&mut command).map_err(not_run)?;
        folder.kill_first(running.id()).map_err(not_run)?;
        let socket = sockets.join(format!(".s.PGSQL.{PORT}"));
        let deadline = Instant::now() + START_WITHIN;
        while !socket.exists() {
            if let Some(status) = running.status().map_err(not_run)? {
                return Err(PoolerError::Ended { program, status, said: last_words(&log) });
            }
            if Instant::now() >= deadline {
                return Err(PoolerError::NotReady { program });
            }
            interrupt.sleep(LOOK_EVERY)?;
        }
        Ok(Pooler { _running: running, url: postgres.url_at(PORT), _folder: folder })
    }

    /// The URL of the database through the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Writes the settings, which contain no secret, so that the user of the engine can read them.
fn prepare(folder: &Path, settings: &str) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    let path = folder.join(SETTINGS);
    fs::write(&path, settings)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Any user may connect, because only the user of the engine can enter the folder of the sockets.
fn settings(sockets: &Path, limits: PoolerLimits) -> String {
    let PoolerLimits { backends, clients } = limits;
    let sockets = sockets.display();
    format!(
        "[databases]\n{DATABASE} = host='{sockets}' user={ROLE}\n\n[pgbouncer]\nunix_socket_dir = {sockets}\n\
         listen_port = {PORT}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {backends}\n\
         max_client_conn = {clients}\n"
    )
}

fn installed() -> Option<PathBuf> {
    find("pgbouncer").or_else(|| Some(Path::new(FOLDER).join("pgbouncer")).filter(|file| file.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_have_the_limits_and_no_address_of_the_network() {
        let text = settings(Path::new("/tmp/pg"), PoolerLimits { backends: 20, clients: 99 });
        for line in
            ["models = host='/tmp/pg' user=ninetabs", "default_pool_size = 20", "max_client_conn = 99"]
        {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert!(!text.contains("listen_addr"), "{text}");
    }
}
