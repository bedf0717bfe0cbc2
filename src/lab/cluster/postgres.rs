//! A private PostgreSQL, created by `initdb` in a temporary folder, and reached through a Unix socket there.
//!
//! No other user can connect, because the socket is in a folder that other users cannot enter. The engine refuses to
//! run as root, so if this process runs as root, the engine runs as the user `postgres`. However this process ends, a
//! shell ends all processes of the engine, including stopped ones, and removes the folder ([`super::super::scratch`]).
//!
//! Starting blocks until the engine accepts connections, for at most 60 s per program, or until the interrupt. Dropping
//! blocks until all processes have ended and the folder is removed, for at most 10 s.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Signal, kill_process};
use thiserror::Error;

use super::super::interrupt::{Interrupt, Interrupted};
use super::super::program::{Program, find};
use super::super::scratch::{Scratch, ScratchError};
use super::engine_end::{END, processes};
use super::engine_user::{EngineUser, EngineUserError, USER};

/// How long `initdb` or the engine may take to start. After a crash, the engine first replays its log.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long the end may take. The shell alone waits for 2 s.
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Packages install each version in a subfolder of one of these, with its programs in `bin`.
const FOLDERS: [&str; 4] = ["/usr/lib/postgresql", "/usr", "/usr/local", "/opt/homebrew/opt"];
/// The role of the servers, which is not a superuser, and its database.
pub(super) const ROLE: &str = "ninetabs";
pub(super) const DATABASE: &str = "models";

/// The name of the engine's socket.
const SOCKET: &str = ".s.PGSQL.5432";
/// The maximum length of a socket's path, in bytes.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The settings of the engine. They keep shared memory in the folder, because segments elsewhere would survive a `kill
/// -9`.
const SETTINGS: [&str; 7] = [
    "listen_addresses=",
    "dynamic_shared_memory_type=mmap",
    "shared_buffers=16MB",
    "jit=off",
    "max_wal_senders=0",
    "wal_level=minimal",
    "logging_collector=off",
];

/// Characters that are encoded in the host of a URL.
const IN_HOST: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Why PostgreSQL could not be started.
#[derive(Debug, Error)]
pub enum PostgresError {
    #[error("interrupted")]
    Interrupted,
    #[error(
        "PostgreSQL is not installed: install the package postgresql, or add the folder that contains initdb to PATH"
    )]
    NotInstalled,
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot prepare the folder of PostgreSQL: {0}")]
    Prepare(io::Error),
    #[error(transparent)]
    User(#[from] EngineUserError),
    #[error(
        "the user {USER}, which runs PostgreSQL, cannot enter {}: set TMPDIR to a folder that it can enter, such as /tmp",
        .0.display()
    )]
    Closed(PathBuf),
    #[error(
        "the path of PostgreSQL's socket would have {length} bytes, and at most {MAX_SOCKET_PATH} are possible: set TMPDIR to a folder with a shorter path, such as /tmp"
    )]
    LongPath { length: usize },
    #[error("cannot run {}: {error}", .program.display())]
    NotRun { program: PathBuf, error: io::Error },
    #[error("{} ended with {status}: {said}", .program.display())]
    Ended { program: PathBuf, status: ExitStatus, said: String },
    #[error("{} was not ready within {START_WITHIN:?}", .program.display())]
    NotReady { program: PathBuf },
}

impl From<Interrupted> for PostgresError {
    fn from(Interrupted: Interrupted) -> Self {
        PostgresError::Interrupted
    }
}

/// A running PostgreSQL with an empty database. Dropping it ends it.
#[derive(Debug)]
pub struct PrivatePostgres {
    programs: PathBuf,
    user: Option<EngineUser>,
    /// The engine, or the program that prepares it.
    running: Option<Program>,
    folder: Scratch,
}

impl PrivatePostgres {
    /// Creates the database, and starts the engine.
    pub fn start(interrupt: &Interrupt) -> Result<PrivatePostgres, PostgresError> {
        let programs = installed().ok_or(PostgresError::NotInstalled)?;
        let user = if rustix::process::geteuid().is_root() { Some(EngineUser::find()?) } else { None };
        let folder = Scratch::make_with_end("ninetabs-pg", END)?;
        let mut postgres = PrivatePostgres { programs, user, running: None, folder };
        let length = postgres.sockets().join(SOCKET).as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(PostgresError::LongPath { length });
        }
        postgres.prepare().map_err(PostgresError::Prepare)?;
        postgres.make_cluster(interrupt)?;
        postgres.launch(interrupt)?;
        Ok(postgres)
    }

    /// The URL of the database, for the role that owns it.
    pub fn url(&self) -> String {
        self.url_of("")
    }

    /// The URL of a program that listens beside the engine on this port.
    pub(super) fn url_at(&self, port: u16) -> String {
        self.url_of(&format!(":{port}"))
    }

    fn url_of(&self, port: &str) -> String {
        let host = self.sockets().to_string_lossy().into_owned();
        format!("postgresql://{ROLE}@{}{port}/{DATABASE}", utf8_percent_encode(&host, IN_HOST))
    }

    /// The version, such as 15.
    pub fn version(&self) -> String {
        let version = fs::read_to_string(self.data().join("PG_VERSION")).unwrap_or_default();
        version.trim().to_owned()
    }

    /// The process id of the postmaster.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(Program::id)
    }

    /// The exit status, if the engine has ended by itself.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.running.as_mut().map_or(Ok(None), Program::status)
    }

    /// Starts the engine again after it has ended. Blocks until it accepts connections.
    pub fn start_again(&mut self, interrupt: &Interrupt) -> Result<(), PostgresError> {
        let end = Instant::now() + START_WITHIN;
        loop {
            match self.launch(interrupt) {
                // Processes of the killed engine may still be ending.
                Err(PostgresError::Ended { .. }) if Instant::now() < end => {
                    interrupt.sleep(LOOK_EVERY * 20)?
                }
                launched => return launched,
            }
        }
    }

    /// Sends this signal to all processes of the engine. On a system without /proc, only the first one gets it.
    pub fn signal(&self, signal: Signal) {
        for process in self.id().map(|first| processes(first, &self.data())).unwrap_or_default() {
            // The process may have ended in the meantime.
            let _ = kill_process(process, signal);
        }
    }

    pub(super) fn sockets(&self) -> PathBuf {
        self.folder.path().join("pg")
    }

    fn data(&self) -> PathBuf {
        self.sockets().join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Creates the folder that only the user of the engine can enter.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.sockets())?;
        let Some(EngineUser { user, group }) = self.user else { return Ok(()) };
        fs::set_permissions(self.folder.path(), Permissions::from_mode(0o711))?;
        chown(self.sockets(), Some(user), Some(group))
    }

    /// Creates the files of the database cluster, the role and the database.
    fn make_cluster(&mut self, interrupt: &Interrupt) -> Result<(), PostgresError> {
        let data = self.data();
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg(format!("--username={USER}")).arg("-D").arg(&data);
        self.start_program(&mut initdb)?;
        self.wait_for_success(&initdb, interrupt)?;

        let mut alone = self.command("postgres");
        alone.args(["--single", "-D"]).arg(&data).arg("postgres").stdin(Stdio::piped());
        let stdin = self.start_program(&mut alone)?.child().stdin.take();
        let sql = format!("CREATE ROLE {ROLE} LOGIN\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n");
        if let Some(mut stdin) = stdin {
            // If it does not read them, its status and its log show why.
            let _ = stdin.write_all(sql.as_bytes());
        }
        self.wait_for_success(&alone, interrupt)
    }

    fn launch(&mut self, interrupt: &Interrupt) -> Result<(), PostgresError> {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data());
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        // A list of quoted paths.
        let sockets = self.sockets().display().to_string().replace('"', "\"\"");
        postgres.arg("-c").arg(format!("unix_socket_directories=\"{sockets}\""));
        let id = self.start_program(&mut postgres)?.id();
        let file = self.data().join("postmaster.pid");
        self.wait_for(&postgres, interrupt, |status| {
            if status.is_some() {
                return Some(false);
            }
            // The first line is the process id, and the last line is the state.
            let text = fs::read_to_string(&file).ok()?;
            let is_ready = text.lines().next().is_some_and(|line| line.trim() == id.to_string())
                && text.lines().nth(7).is_some_and(|line| line.trim() == "ready");
            is_ready.then_some(true)
        })
    }

    /// The path of a program of this version.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A program of this version, run as the user of the engine.
    pub(super) fn command(&self, name: &str) -> Command {
        self.command_of(&self.program(name))
    }

    /// Any program, run as the user of the engine.
    pub(super) fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(EngineUser { user, group }) = self.user {
            command.uid(user).gid(group);
        }
        // Variables such as PGDATA or PGPORT are meant for another engine.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn start_program(&mut self, command: &mut Command) -> Result<&mut Program, PostgresError> {
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        command.stderr(log.map_err(PostgresError::Prepare)?);
        let program = Program::start(command).map_err(|error| self.not_run(command, error))?;
        self.folder.kill_first(program.id()).map_err(|error| self.not_run(command, error))?;
        Ok(self.running.insert(program))
    }

    fn not_run(&self, command: &Command, error: io::Error) -> PostgresError {
        let closed = self.user.and_then(|user| user.closed_folder(self.folder.path()));
        match closed.filter(|_| error.kind() == io::ErrorKind::PermissionDenied) {
            Some(folder) => PostgresError::Closed(folder),
            None => PostgresError::NotRun { program: PathBuf::from(command.get_program()), error },
        }
    }

    fn wait_for_success(&mut self, command: &Command, interrupt: &Interrupt) -> Result<(), PostgresError> {
        self.wait_for(command, interrupt, |status| status.map(|status| status.success()))
    }

    /// Waits until `look` returns a result.
    fn wait_for(
        &mut self,
        command: &Command,
        interrupt: &Interrupt,
        look: impl Fn(Option<ExitStatus>) -> Option<bool>,
    ) -> Result<(), PostgresError> {
        let program = || PathBuf::from(command.get_program());
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            let status =
                self.status().map_err(|error| PostgresError::NotRun { program: program(), error })?;
            match (look(status), status) {
                (Some(true), _) => return Ok(()),
                (Some(false), Some(status)) => {
                    return Err(PostgresError::Ended {
                        program: program(),
                        status,
                        said: last_words(&self.log()),
                    });
                }
                _ => interrupt.sleep(LOOK_EVERY)?,
            }
        }
        Err(PostgresError::NotReady { program: program() })
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let running = &mut self.running;
        // The shell waits until the process is gone, so this process must reap it.
        let ended = self.folder.end_group(END_WITHIN, || {
            let _ = running.as_mut().map(Program::status);
        });
        if let Err(error) = ended {
            log::warn!("cannot wait for the end of PostgreSQL: {error}");
        }
    }
}

/// The last error line of a log, or else its last line.
pub(super) fn last_words(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let is_error = |line: &&str| ["FATAL", "ERROR", "error", "PANIC"].iter().any(|it| line.contains(it));
    let line = log.lines().rev().find(is_error).or(log.lines().next_back()).unwrap_or("it said nothing");
    line.trim().to_owned()
}

/// The folder of the programs of PostgreSQL: on PATH, or the newest version where packages install it.
pub fn installed() -> Option<PathBuf> {
    let has_both =
        |folder: &Path| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    // The entry may be a link into the folder that contains the other programs as well.
    let on_path = find("initdb").and_then(|file| Some(file.canonicalize().ok()?.parent()?.to_owned()));
    let newest = || {
        let entries = FOLDERS.iter().flat_map(fs::read_dir).flatten().flatten();
        entries
            .map(|entry| entry.path().join("bin"))
            .filter(|bin| has_both(bin))
            .max_by_key(|bin| version_in(bin))
    };
    on_path.filter(|folder| has_both(folder)).or_else(newest)
}

/// The number in the name of a folder such as `15`, `pgsql-15` or `postgresql@15`, or 0.
fn version_in(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_read_from_the_name_of_its_folder() {
        for (bin, version) in [
            ("/usr/lib/postgresql/15/bin", 15),
            ("/usr/pgsql-17/bin", 17),
            ("/opt/homebrew/opt/postgresql@16/bin", 16),
            ("/usr/local/pgsql/bin", 0),
        ] {
            assert_eq!(version_in(Path::new(bin)), version);
        }
    }
}
