//! A private PostgreSQL for the tests of one binary, with a database for each test.
//!
//! It listens on a Unix socket in a temporary folder. A shell ends it and removes the folder as soon as the pipe to
//! this process closes, however this process ends. The engine refuses to run as root, so if the tests run as root, it
//! runs as the user `postgres`.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use ninetabs::app::adapters::postgresql::PgSettings;
use ninetabs::app::database_place::DatabaseUrl;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Row};

use crate::common::{PATIENCE, Server, program, set_mode, wait_for};

/// Where Debian, Fedora and other distributions install the programs of each version.
const FOLDERS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/pgsql"];
/// The engine's settings for tests. No test simulates a power failure.
///
/// Shared memory outside the folder would survive the end of its processes.
const SETTINGS: [&str; 13] = [
    "listen_addresses=",
    "dynamic_shared_memory_type=mmap",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "jit=off",
    "shared_buffers=16MB",
    "max_connections=250",
    "wal_level=minimal",
    "max_wal_senders=0",
    "min_wal_size=32MB",
    "logging_collector=off",
    "restart_after_crash=off",
];
/// The only role that needs a password to connect. A test creates it.
pub const WITH_PASSWORD: &str = "with_password";
/// Shuts down the engine and its children, even if they are suspended, and removes its folder. The engine gets two
/// seconds to exit before it is killed, because only a regular exit removes its segment of shared memory.
const END: &str = r#"
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = postgres ]; then
    all="$pid $(cat "/proc/$pid/task/$pid/children" 2> /dev/null)"
    kill -s CONT $all 2> /dev/null
    kill -s QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -e "$1/data/postmaster.pid" ] || break
        sleep 0.1
    done
    kill -s KILL $all 2> /dev/null
fi
sleep 0.2
rm -rf "$1"
"#;

/// A running PostgreSQL.
pub struct Engine {
    pub(super) folder: PathBuf,
    pub(super) programs: PathBuf,
    /// Settings that differ from [`SETTINGS`].
    settings: Vec<&'static str>,
    /// The words before the command that starts the engine, such as those of `nsenter`.
    prefix: Vec<String>,
    databases: AtomicU32,
    /// The shell, whose standard input is the pipe.
    _end: Child,
}

/// A database of one test, owned by the ordinary role `ninetabs`.
pub struct TestDatabase<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: String,
}

/// The engine that all tests share. No test stops it. If PostgreSQL is not installed, prints a message and returns
/// `None`.
pub fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    ENGINE.get_or_init(Engine::start).as_ref()
}

/// The folder of the programs of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = FOLDERS.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter(|path| path.join("bin/initdb").is_file()).max_by_key(version);
    if newest.is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed, and CI is set");
        eprintln!("skipped: PostgreSQL is not installed");
    }
    Some(newest?.join("bin"))
}

/// A command that runs this program as a user that is allowed to run the engine.
pub fn as_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

impl Engine {
    /// Starts a separate engine, for a test that stops it.
    pub fn start() -> Option<Engine> {
        Engine::start_with(&[])
    }

    /// The same with additional settings.
    pub fn start_with(settings: &[&'static str]) -> Option<Engine> {
        Engine::start_behind(Vec::new(), settings)
    }

    /// The same with these words before the command that starts the engine.
    pub fn start_behind(prefix: Vec<String>, settings: &[&'static str]) -> Option<Engine> {
        let mut engine = Engine::in_new_folder(programs()?, settings);
        engine.prefix = prefix;
        engine.create_files();
        engine.launch();
        engine.admin("postgres").execute("CREATE ROLE ninetabs LOGIN");
        Some(engine)
    }

    /// An engine without files.
    pub(super) fn in_new_folder(programs: PathBuf, settings: &[&'static str]) -> Engine {
        let folder = tempfile::Builder::new().prefix("ninetabs-pg-").tempdir().unwrap().keep();
        let mut end = Command::new("sh");
        // An interrupt from the terminal must end the tests, but not this shell.
        end.args(["-c", END, "sh"]).arg(&folder).stdin(Stdio::piped()).process_group(0);
        let end = end.spawn().unwrap();
        set_mode(&folder, 0o777);
        Engine {
            folder,
            programs,
            settings: settings.to_vec(),
            prefix: Vec::new(),
            databases: AtomicU32::new(0),
            _end: end,
        }
    }

    /// Copies the files of a new engine, which are created only once: `initdb` takes a second of processor time. All
    /// engines therefore have the same system identifier.
    fn create_files(&self) {
        static TEMPLATE: OnceLock<Engine> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let template = Engine::in_new_folder(self.programs.clone(), &[]);
            template.init();
            template
        });
        let mut copy = as_user(Path::new("cp"));
        let copied =
            copy.arg("-R").args([&template.folder, &self.folder].map(|folder| folder.join("data"))).output();
        let copied = copied.unwrap();
        assert!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
    }

    fn init(&self) {
        let data = self.folder.join("data");
        let mut initdb = as_user(&self.programs.join("initdb"));
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        let made = initdb.arg(&data).current_dir(&self.folder).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let rules = data.join("pg_hba.conf");
        let others = fs::read_to_string(&rules).unwrap();
        let ours = format!("local all {WITH_PASSWORD} scram-sha-256\nhost all all samenet trust\n");
        fs::write(&rules, ours + &others).unwrap();
    }

    /// Starts the engine, and waits until it accepts connections.
    pub fn launch(&self) {
        let plain = as_user(&self.programs.join("postgres"));
        let prefix = self.prefix.iter().map(OsStr::new);
        let mut words = prefix.chain([plain.get_program()]).chain(plain.get_args());
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg("-D").arg(self.folder.join("data"));
        // A later setting replaces an earlier one.
        for setting in SETTINGS.iter().chain(&self.settings) {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.process_group(0).spawn().unwrap();
        wait_for("PostgreSQL", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "postgres ended with {ended:?}: {}", self.log());
            Sql::connect(&self.url_of("postgres", "postgres")).ok()
        });
        // The process is reaped when it ends.
        std::thread::spawn(move || child.wait());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@{}/{database}", self.host())
    }

    /// The folder of its socket, as the host of a URL.
    pub(super) fn host(&self) -> String {
        self.folder.display().to_string().replace('/', "%2F")
    }

    /// A connection of the superuser.
    pub fn admin(&self, database: &str) -> Sql {
        Sql::connect(&self.url_of("postgres", database)).unwrap()
    }

    /// A new database, whose owner is not a superuser.
    pub fn database(&self) -> TestDatabase<'_> {
        self.database_with("")
    }

    /// The same with these options of `CREATE DATABASE`.
    pub fn database_with(&self, options: &str) -> TestDatabase<'_> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let admin = self.admin("postgres");
        // Copying the files takes a third of the processor time. Version 14 has only this strategy, and no name for it.
        let is_named = admin
            .ask("SELECT (current_setting('server_version_num')::integer >= 150000)::integer::bigint")
            == 1;
        let strategy = if is_named { "STRATEGY file_copy" } else { "" };
        admin.execute(&format!("CREATE DATABASE {name} OWNER ninetabs {strategy} {options}"));
        TestDatabase { engine: self, name }
    }

    /// Starts PgBouncer. If it is not installed, prints a message and returns `None`.
    pub fn pooler(&self) -> Option<Pooler> {
        let program = program("pgbouncer")?;
        let (folder, port) = (self.folder.display(), 6432);
        let users = self.folder.join("users");
        fs::write(&users, "\"ninetabs\" \"\"\n").unwrap();
        let settings = self.folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={folder}\n[pgbouncer]\nunix_socket_dir = {folder}\nlisten_port = {port}\n\
             pool_mode = transaction\nauth_type = trust\nauth_file = {}\n",
            users.display()
        );
        fs::write(&settings, text).unwrap();
        let plain = as_user(&program);
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" & cat > /dev/null; kill $!; wait", "sh"]);
        shell.arg(plain.get_program()).args(plain.get_args()).arg(&settings);
        shell.current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let pooler = Pooler { port, shell: shell.process_group(0).spawn().unwrap() };
        wait_for("PgBouncer", || self.folder.join(format!(".s.PGSQL.{port}")).exists().then_some(()));
        Some(pooler)
    }

    fn pids(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let first = text.lines().next().unwrap().trim().to_owned();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let all = [first].into_iter().chain(children.split_whitespace().map(str::to_owned));
        all.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Sends this signal to all processes of the engine.
    pub fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            // A process may have ended in the meantime.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills all processes of the engine, and waits until they have ended.
    pub fn kill(&self) {
        let pids = self.pids();
        self.signal(Signal::KILL);
        wait_for_the_end(&pids);
    }

    /// Shuts down the engine, which ends all connections, and waits until it has ended.
    pub fn shut_down(&self) {
        let pids = self.pids();
        kill_process(pids[0], Signal::INT).unwrap();
        wait_for_the_end(&pids);
    }
}

fn wait_for_the_end(pids: &[Pid]) {
    wait_for("the end of PostgreSQL", || {
        let is_gone = |pid: &Pid| rustix::process::test_kill_process(*pid).is_err();
        pids.iter().all(is_gone).then_some(())
    });
}

/// PgBouncer in transaction mode, in front of an engine. It ends with the pipe to its shell.
pub struct Pooler {
    port: u16,
    shell: Child,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self._end.stdin.take());
        let _ = self._end.wait();
    }
}

impl TestDatabase<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL for the role that owns the database.
    pub fn url(&self) -> String {
        self.engine.url_of("ninetabs", &self.name)
    }

    /// The URL through this address instead of the socket.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgresql://ninetabs@{address}/{}", self.name)
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.engine.folder.join(".s.PGSQL.5432")
    }

    /// The URL through a pooler.
    pub fn pooled_url(&self, pooler: &Pooler) -> String {
        self.url().replace(&format!("/{}", self.name), &format!(":{}/{}", pooler.port, self.name))
    }

    /// A connection of the role that owns it.
    pub fn sql(&self) -> Sql {
        Sql::connect(&self.url()).unwrap()
    }

    /// A connection of the superuser.
    pub fn admin(&self) -> Sql {
        self.engine.admin(&self.name)
    }

    /// A server on this database, with these flags.
    pub fn server(&self, flags: &[&str]) -> Server {
        self.server_at(&self.url(), flags)
    }

    /// The same with another URL of the database.
    pub fn server_at(&self, url: &str, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(flags).env("NINETABS_DATABASE", url);
        Server::spawn(command, folder)
    }

    /// The settings of the adapter for this database.
    pub fn settings(&self) -> PgSettings {
        PgSettings {
            database: DatabaseUrl::of(&self.url()).unwrap(),
            cable: None,
            query_timeout: PATIENCE,
            application_name: "ninetabs test".to_owned(),
        }
    }

    /// Ends the backends of all servers on this database. Returns how many there were.
    pub fn terminate(&self, sql: &Sql, application_name: &str) -> i64 {
        let ended = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = '{}' AND application_name LIKE '{application_name}'",
            self.name
        );
        sql.ask(&ended)
    }

    /// Runs a statement with `psql`.
    pub fn psql(&self, statement: &str) {
        let mut command = Command::new(self.engine.programs.join("psql"));
        let output = command.args(["-q", "-c", statement]).arg(self.url()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a script with `psql`, which may contain the rows of `COPY`.
    pub fn psql_script(&self, script: &str) {
        let mut command = Command::new(self.engine.programs.join("psql"));
        command.args(["-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]).arg(self.url());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Writes rows with `COPY`.
    pub fn copy(&self, statement: &str, rows: &str) {
        let mut command = Command::new(self.engine.programs.join("psql"));
        command.args(["-q", "-c", statement]).arg(self.url()).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// A connection of another program.
pub struct Sql {
    runtime: Runtime,
    client: Client,
}

impl Sql {
    pub fn connect(url: &str) -> Result<Sql, tokio_postgres::Error> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(connection);
        Ok(Sql { runtime, client })
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub fn try_execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.runtime.block_on(self.client.query(sql, &[])).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The number that a query returns.
    pub fn ask(&self, sql: &str) -> i64 {
        self.rows(sql)[0].get(0)
    }

    /// The numbers that a query returns, one per row.
    pub fn numbers(&self, sql: &str) -> Vec<i64> {
        self.rows(sql).iter().map(|row| row.get(0)).collect()
    }
}
