//! A server of a test's own: a child `ninetabs serve` on free ports, with a
//! temporary database, gone when the test is.

mod answers;
pub mod axe;
pub mod case_bytes;
pub mod cases;
pub mod chromedriver;
pub mod cuts;
pub mod models;
pub mod npm;
pub mod puma;
pub mod terminal;
pub mod trace;
pub mod wire;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for what must come, on the slowest of machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Both front doors, for a promise that holds on either; whoever names none gets the first.
pub const FRONTS: [&str; 2] = ["puma", "tiny-http"];

/// A running `ninetabs serve`.
pub struct Server {
    pub child: Child,
    pub app: SocketAddr,
    pub control: SocketAddr,
    pub folder: TempDir,
}

/// A server that was stopped, to be started again.
pub struct Stopped {
    folder: TempDir,
    app: SocketAddr,
}

impl Stopped {
    /// Starts a server with these flags on the same database and address.
    pub fn start_again(self, flags: &[&str]) -> Server {
        let mut command = Server::command_on(&self.app.to_string(), self.folder.path());
        command.args(flags);
        Server::spawn(command, self.folder)
    }
}

impl Server {
    /// Starts it with these flags besides its addresses, database and state file,
    /// and waits until it listens. Nothing is produced unless the flags say so.
    pub fn start(flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(flags);
        Server::spawn(command, folder)
    }

    /// As `start`, with that front door.
    pub fn on(front: &str, flags: &[&str]) -> Server {
        Server::start(&[&["--front", front], flags].concat())
    }

    /// Starts it with no more than so many descriptors, as `start` does otherwise.
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

    /// Starts its app on this address in the place of loopback, as `start` does otherwise.
    pub fn bound_to(address: &str, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command_on(address, folder.path());
        command.args(flags);
        Server::spawn(command, folder)
    }

    /// Starts another one on the same database.
    pub fn beside(&self, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(flags).env("NINETABS_DATABASE", self.database());
        Server::spawn(command, folder)
    }

    /// Stops it, and starts it again with these flags, its database and its address.
    pub fn restart(self, flags: &[&str]) -> Server {
        self.stopped().start_again(flags)
    }

    /// Stops it; its database and its address can be used again.
    pub fn stopped(mut self) -> Stopped {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.wait_for_exit().success(), "{}", self.log());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Stopped { folder, app: self.app }
    }

    /// As `start`, with the flags as a person types them.
    pub fn start_with(flags: &str) -> Server {
        Server::start(&flags.split_whitespace().collect::<Vec<_>>())
    }

    /// The command that `start` runs, for a test that wants to change it.
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

    /// The same command, for this address in the place of a free port.
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
        Server { child, app, control, folder }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("models.sqlite3")
    }

    /// What it has written to its log so far. A thread of its own writes the log, so this waits
    /// until nothing more comes.
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

    /// Waits until the stats are as wanted, and answers them.
    pub fn wait_for_stats(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(PATIENCE, || {
            last = self.stats();
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("no {what} in {PATIENCE:?}; last: {last}\n{}", self.log()))
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

/// Starts a server whose stdout is read, and gives what it said up to and with
/// the line that has these words.
pub fn start_and_hear(flags: &[&str], words: &str) -> (Server, BufReader<ChildStdout>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.args(flags).stdout(Stdio::piped());
    let mut server = Server::spawn(command, folder);
    let mut stdout = BufReader::new(server.child.stdout.take().unwrap());
    let said = hear(&mut stdout, words);
    (server, stdout, said)
}

/// Reads lines until these words have come, and gives all that it read.
pub fn hear(stdout: &mut impl BufRead, words: &str) -> String {
    let mut said = String::new();
    while !said.contains(words) {
        assert!(stdout.read_line(&mut said).unwrap() > 0, "no {words:?} in {said:?}");
    }
    said
}

/// What lies in a folder, by name.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Opens a connection and writes these bytes on it.
pub fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A whole exchange of HTTP/1.0, so that its end is the connection's end.
pub fn ask(to: SocketAddr, request: &str) -> String {
    let mut stream = send(to, request.as_bytes());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and body of an answer.
pub fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), body.to_owned())
}

pub fn get(to: SocketAddr, path: &str) -> (u16, String) {
    split(&ask(to, &format!("GET {path} HTTP/1.0\r\n\r\n")))
}

/// Waits until a page is answered, each time on a new connection: tiny_http may
/// leave one unread that came close behind others.
pub fn wait_until_up(to: SocketAddr) {
    wait_for("an answer of /up", || {
        let mut stream = send(to, b"GET /up HTTP/1.0\r\n\r\n");
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200 OK").then_some(())
    });
}

pub fn json(to: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let (status, body) = split(&ask(to, &format!("{method} {path} HTTP/1.0\r\n\r\n")));
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// All models: the pages of `/models.json`, each at the address that the one before names.
pub fn all_models(app: SocketAddr) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), Some("/models.json".to_owned()));
    while let Some(address) = next {
        let answer = ask(app, &format!("GET {address} HTTP/1.0\r\n\r\n"));
        let (status, body) = split(&answer);
        assert_eq!(status, 200, "{body}");
        all.extend(serde_json::from_str::<Vec<Value>>(&body).unwrap());
        let link = answer.lines().find_map(|line| line.strip_prefix("link: <"));
        next = link.and_then(|link| link.strip_suffix(">; rel=\"next\"")).map(str::to_owned);
    }
    all
}

/// Creates a model through the app.
pub fn create(to: SocketAddr, name: &str) -> (u16, String) {
    let length = name.len() + 5;
    split(&ask(
        to,
        &format!(
            "POST /models HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\nname={name}"
        ),
    ))
}

/// Opens a stream and reads until its first event is whole.
pub fn open_stream(to: SocketAddr) -> TcpStream {
    let mut stream = send(to, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut stream, "data: ");
    stream
}

/// Reads until the text has come, and answers all that was read.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let mut looked_at = 0;
    // It may begin in what was looked at before.
    while !String::from_utf8_lossy(&read[read.len().min(looked_at)..]).contains(text) {
        looked_at = read.len().saturating_sub(text.len());
        // A read with a timeout is not begun again by the kernel after a signal.
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(count > 0, "ended before {text:?}: {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// One answer on a connection that may go on, framed by its `content-length`.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value; names in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (given, value) = line.split_once(": ")?;
            given.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Reads one answer and not a byte more.
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let head = read_head(stream);
    let mut answer = Answer { status: split(&head).0, head, body: String::new() };
    let length = answer.header("content-length").unwrap_or_else(|| panic!("no length: {}", answer.head));
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

/// Reads a head, up to and with its empty line, and not a byte more.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} in a head after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Creates so many models of 16 KiB each, the longest that there are.
pub fn create_large(to: SocketAddr, count: usize) {
    for _ in 0..count {
        assert_eq!(create(to, &"x".repeat(16 * 1024)).0, 201);
    }
}

/// A client that asks for a stream of all models and reads nothing of it. The
/// models must be more than the socket's buffers hold: 500 large ones are.
pub fn stopped_reader(server: &Server) -> TcpStream {
    let request = b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n";
    let client = send(server.app, request);
    wait_until_blocked(server, &client);
    client
}

/// Waits until the write to this client is blocked: some bytes are out, and no more
/// follow. Between two events there is a pause, too, but not of such a length.
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

/// A number of a process's `/proc/PID/status`: `Threads`, or `VmHWM` and others in KiB.
pub fn proc_status(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

/// A `ninetabs` for `reproduce --program` whose server has two threads where eight are
/// asked for, so that a claim fails.
pub fn with_two_threads(folder: &Path) -> PathBuf {
    let fewer = folder.join("ninetabs");
    std::fs::copy(env!("CARGO_BIN_EXE_ninetabs"), folder.join("real")).unwrap();
    let script = "#!/bin/sh\nhere=$(dirname \"$0\")\nset -- $(echo \"$@\" | sed 's/8:8/2:2/')\nexec \"$here/real\" \"$@\"\n";
    std::fs::write(&fewer, script).unwrap();
    std::fs::set_permissions(&fewer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fewer
}

/// Waits for something to be there.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(PATIENCE, look).unwrap_or_else(|| panic!("{what} did not come in {PATIENCE:?}"))
}

/// Looks until there is something, for that long at most.
pub fn poll<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Where a program is, or None: the test says so and is skipped, unless `CI` is
/// set, where it fails.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed, and CI is set");
        eprintln!("skipped: {name} is not installed");
    }
    found
}
