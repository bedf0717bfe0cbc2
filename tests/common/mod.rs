//! A server for one test: a `ninetabs serve` child process on free ports, with a temporary database. Both are
//! removed when the test ends.

mod answers;
pub mod axe;
pub mod batch;
pub mod case_bytes;
pub mod cases;
pub mod chromedriver;
pub mod cuts;
pub mod engines;
#[cfg(feature = "postgresql")]
pub mod listeners;
pub mod models;
#[cfg(all(feature = "postgresql", target_os = "linux"))]
pub mod names;
pub mod network;
pub mod npm;
#[cfg(feature = "postgresql")]
pub mod postgres;
pub mod probed;
pub mod puma;
mod raw;
#[cfg(feature = "postgresql")]
pub mod relay;
pub mod scripted;
pub mod small_disk;
#[cfg(feature = "postgresql")]
pub mod standby;
pub mod stopped;
pub mod terminal;
pub mod tls;
pub mod trace;
pub mod wire;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ninetabs::lab::http;
use serde_json::Value;
use tempfile::TempDir;

use engines::{DatabasePlace, OtherProgram};
pub use raw::{
    ask, header, open_stream, read_answer, read_head, read_to_end, read_until, send, send_with_buffer,
    send_with_small_buffer, split,
};

/// How long a test waits for something that must happen, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Both front doors, for tests of behavior that they share. The first is the default.
pub const FRONTS: [&str; 2] = ["puma", "tiny-http"];

/// A running `ninetabs serve`.
pub struct Server {
    pub child: Child,
    pub app: SocketAddr,
    pub control: SocketAddr,
    pub folder: TempDir,
    place: DatabasePlace,
}

/// A server that was stopped, to be started again.
pub struct Stopped {
    folder: TempDir,
    app: SocketAddr,
    place: DatabasePlace,
}

impl Stopped {
    /// Starts a server with these flags on the same database and address.
    pub fn start_again(self, flags: &[&str]) -> Server {
        let mut command = Server::command_on(&self.app.to_string(), self.folder.path());
        command.args(flags);
        self.place.use_in(&mut command);
        Server::spawn(command, self.folder)
    }
}

impl Server {
    /// Starts a server on free ports with its own database and state file and with these additional flags, and
    /// waits until it listens. The producer is off unless the flags enable it.
    pub fn start(flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(flags);
        Server::spawn(command, folder)
    }

    /// Like `start`, with this front door.
    pub fn on(front: &str, flags: &[&str]) -> Server {
        Server::start(&[&["--front", front], flags].concat())
    }

    /// Like `start`, with at most this many descriptors.
    pub fn with_descriptors(limit: u32, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let plain = Server::command(folder.path());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -Sn {limit} && ulimit -Hn {limit} && exec \"$@\""), "sh"]);
        command.arg(plain.get_program()).args(plain.get_args()).args(flags);
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        Server::spawn(command, folder)
    }

    /// Like `start`, with its app on this address instead of loopback.
    pub fn bound_to(address: &str, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command_on(address, folder.path());
        command.args(flags);
        Server::spawn(command, folder)
    }

    /// Starts another server on the same database.
    pub fn beside(&self, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.command_beside(folder.path());
        command.args(flags);
        Server::spawn(command, folder)
    }

    /// The command that starts another server on the same database.
    pub fn command_beside(&self, folder: &Path) -> Command {
        let mut command = Server::command(folder);
        self.place.use_in(&mut command);
        command
    }

    /// Stops the server, and starts it again with these flags on the same database and address.
    pub fn restart(self, flags: &[&str]) -> Server {
        self.stopped().start_again(flags)
    }

    /// Stops the server. Its database and its address can then be used again.
    pub fn stopped(mut self) -> Stopped {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.wait_for_exit().success(), "{}", self.log());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Stopped { folder, app: self.app, place: self.place.clone() }
    }

    /// Like `start`, with the flags in one string, separated by spaces.
    pub fn start_with(flags: &str) -> Server {
        Server::start(&flags.split_whitespace().collect::<Vec<_>>())
    }

    /// The command that `start` runs, for tests that modify it.
    pub fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command
            .args(["serve", "--bind", "tcp://127.0.0.1:0", "--control-url", "tcp://127.0.0.1:0"])
            .arg("--state")
            .arg(folder.join("state"))
            .args(["--stop-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .env("NINETABS_DATABASE", folder.join("models.sqlite3"))
            .env("NINETABS_PRODUCE_EVERY", "off")
            .env_remove("RUST_LOG");
        command
    }

    /// The same command, for this address instead of a free port.
    fn command_on(address: &str, folder: &Path) -> Command {
        let plain = Server::command(folder);
        let mut args: Vec<_> = plain.get_args().map(ToOwned::to_owned).collect();
        let bind = args.iter().position(|arg| arg == "--bind").unwrap();
        args[bind + 1] = format!("tcp://{address}").into();
        let mut command = Command::new(plain.get_program());
        command.args(args);
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(folder.join("log")).unwrap());
        command
    }

    pub fn spawn(mut command: Command, folder: TempDir) -> Server {
        // The bodies of these tests mostly wait. If each of them began only when libtest reached its test, they would
        // block all test threads while the processors are idle.
        crate::probe::BATCH.begin();
        crate::several::BATCH.begin();
        let place = DatabasePlace::of(&command);
        let mut child = command.spawn().unwrap();
        let state = folder.path().join("state");
        let text = wait_for("the state file", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("serve ended with {status}: {}", read(&folder.path().join("log")));
            }
            std::fs::read_to_string(&state).ok()
        });
        let address = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_start_matches("tcp://").parse().unwrap()
        };
        let (app, control) = (address("bind:"), address("control_url:"));
        Server { child, app, control, folder, place }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("models.sqlite3")
    }

    /// Another program's connection to the database.
    pub fn other_program(&self) -> OtherProgram {
        self.place.other_program()
    }

    /// The server's log so far. A separate thread writes the log, so this waits until nothing more arrives.
    pub fn log(&self) -> String {
        let path = self.folder.path().join("log");
        let mut log = read(&path);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(200));
            let more = read(&path);
            if more.len() == log.len() {
                break;
            }
            log = more;
        }
        log
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.app)
    }

    pub fn stats(&self) -> Value {
        json(self.control, "GET", "/stats").1
    }

    /// Waits until the stats are as expected, and returns them.
    pub fn wait_for_stats(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(PATIENCE, || {
            last = self.stats();
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| {
            panic!("still waiting for {what} after {PATIENCE:?}; last stats: {last}\n{}", self.log())
        })
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the server's end", || child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server and reads its standard output. Returns the output up to and including the line with these words.
pub fn start_and_hear(flags: &[&str], words: &str) -> (Server, BufReader<ChildStdout>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.args(flags).stdout(Stdio::piped());
    let mut server = Server::spawn(command, folder);
    let mut stdout = BufReader::new(server.child.stdout.take().unwrap());
    let said = hear(&mut stdout, words);
    (server, stdout, said)
}

/// Reads lines until these words arrive, and returns all of them.
pub fn hear(stdout: &mut impl BufRead, words: &str) -> String {
    let mut said = String::new();
    while !said.contains(words) {
        assert!(stdout.read_line(&mut said).unwrap() > 0, "no {words:?} in {said:?}");
    }
    said
}

/// The names of the files in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Sends a request as pumactl does, and returns the status and the body.
pub fn call(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let (head, body) = answer(to, method, path);
    (head.status, body)
}

fn answer(to: SocketAddr, method: &str, path: &str) -> (http::Head, String) {
    let (host, options) = (to.ip().to_string(), http::Options::within(PATIENCE));
    let mut connection = http::Connection::open_host(&host, to.port(), &options, |_| true).unwrap();
    connection.set_deadline(Some(Instant::now() + PATIENCE));
    let answer = connection.send_plain(method, path).and_then(|()| connection.answer());
    let (head, body) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    (head, String::from_utf8_lossy(&body).into_owned())
}

pub fn get(to: SocketAddr, path: &str) -> (u16, String) {
    call(to, "GET", path)
}

pub fn json(to: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let (status, body) = call(to, method, path);
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// All models, collected from the pages of `/models.json`, each of which links to the next one.
pub fn all_models(app: SocketAddr) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), Some("/models.json".to_owned()));
    while let Some(address) = next {
        let (head, body) = answer(app, "GET", &address);
        assert_eq!(head.status, 200, "{body}");
        all.extend(serde_json::from_str::<Vec<Value>>(&body).unwrap());
        let link = head.header("link");
        next =
            link.and_then(|link| Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned()));
    }
    all
}

/// Creates a model through the app.
pub fn create(to: SocketAddr, name: &str) -> (u16, String) {
    let (url, form) = (format!("http://{to}/models"), "application/x-www-form-urlencoded");
    let answer = http::post(&url, form, format!("name={name}"), PATIENCE).unwrap();
    (answer.status(), answer.text())
}

/// Waits until `/up` is answered. Each attempt opens a new connection, because tiny_http may leave a connection
/// unread that arrived soon after others.
pub fn wait_until_up(to: SocketAddr) {
    wait_for("an answer of /up", || {
        let answer = http::get(&format!("http://{to}/up"), Duration::from_secs(2)).ok()?;
        (answer.status() == 200).then_some(())
    });
}

/// Creates this many models of the maximum size, 16 KiB each.
pub fn create_large(to: SocketAddr, count: usize) {
    for _ in 0..count {
        assert_eq!(create(to, &"x".repeat(16 * 1024)).0, 201);
    }
}

/// A client that requests a stream of all models and reads none of it. The models must exceed the socket's buffers;
/// 500 large ones do.
pub fn stopped_reader(server: &Server) -> TcpStream {
    let request = b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n";
    let client = send(server.app, request);
    wait_until_blocked(server, &client);
    client
}

/// Waits until the write to this client is blocked: some bytes were sent, but none in the last 1.5 s, which is
/// longer than the pause between two events.
pub fn wait_until_blocked(server: &Server, client: &TcpStream) {
    let port = u64::from(client.local_addr().unwrap().port());
    let (mut last, mut since) = (0, Instant::now());
    wait_for("a blocked write", || {
        let threads = json(server.control, "GET", "/threads").1;
        let bytes = threads.as_array()?.iter().find(|it| it["port"] == port)?["bytes"].as_u64()?;
        if bytes != last {
            (last, since) = (bytes, Instant::now());
        }
        (bytes > 0 && since.elapsed() > Duration::from_millis(1500)).then_some(())
    });
}

/// A number from `/proc/PID/status`: `Threads`, or a size in KiB such as `VmHWM`.
pub fn proc_status(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many threads of a process have this name. The kernel truncates names to 15 characters.
pub fn threads_named(pid: u32, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.map(|task| read(&task.unwrap().path().join("comm")));
    names.filter(|it| it.trim_end() == name).count()
}

/// A program for `reproduce --program` that runs `ninetabs` with two server threads instead of eight, which makes a
/// claim fail.
pub fn with_two_threads(folder: &Path) -> PathBuf {
    let fewer = folder.join("ninetabs");
    copy_program(Path::new(env!("CARGO_BIN_EXE_ninetabs")), &folder.join("real"));
    let script = "#!/bin/sh\nhere=$(dirname \"$0\")\nset -- $(echo \"$@\" | sed 's/8:8/2:2/')\nexec \"$here/real\" \"$@\"\n";
    let source = folder.join("script");
    std::fs::write(&source, script).unwrap();
    copy_program(&source, &fewer);
    fewer
}

/// A command that runs a copy of the program in this folder as user and group 65534. Only root can do that; for
/// other users, prints a message and returns `None`.
pub fn as_another_user(folder: &Path) -> Option<Command> {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run the program as another user");
        return None;
    }
    // Other users may not be able to read the build folder.
    let program = folder.join("ninetabs");
    copy_program(Path::new(env!("CARGO_BIN_EXE_ninetabs")), &program);
    let mut command = Command::new(program);
    command.uid(65534).gid(65534).stdin(Stdio::null());
    Some(command)
}

/// Copies a program in a separate process. A program cannot be run while any process has it open for writing, and a
/// process that another test starts briefly inherits the files that this process has open.
fn copy_program(from: &Path, to: &Path) {
    assert!(
        Command::new("cp").args([from, to]).status().unwrap().success(),
        "cannot copy {}",
        from.display()
    );
    set_mode(to, 0o755);
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Waits until `look` returns something.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(PATIENCE, look).unwrap_or_else(|| panic!("still waiting for {what} after {PATIENCE:?}"))
}

/// Repeats `look` until it returns something, but for at most this time. Each call of `look` often costs a request,
/// so the pauses grow from 10 to 40 ms.
pub fn poll<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause + Duration::from_millis(2)).min(Duration::from_millis(40));
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The path of the Chromium that the lab uses. If none is installed, returns `None` as `program` does.
pub fn chromium() -> Option<PathBuf> {
    ninetabs::lab::chromium::installed().or_else(|| program("chromium"))
}

/// The path of a program. If it is not installed, prints a message and returns `None`, and the test is skipped.
/// With `CI` set, the test fails instead.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed, and CI is set");
        eprintln!("skipped: {name} is not installed");
    }
    found
}
