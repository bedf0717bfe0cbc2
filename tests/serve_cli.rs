//! `ninetabs serve` as a command: its error messages, its environment variables, its output, and its files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::{
    self, Server, as_another_user, create, hear, json, names, open_stream, read_until, send, set_mode,
    start_and_hear,
};
use rustix::process::Signal;

on_each_engine! {
    the_start_up_message_counts_the_rows_of_earlier_runs,
}

/// A command that runs the program in this folder. A server that starts although it should have refused ends
/// immediately with status 0, because its standard input is empty.
fn ninetabs(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for (key, value) in [
        ("BIND", "tcp://127.0.0.1:0"),
        ("CONTROL_URL", "tcp://127.0.0.1:0"),
        ("DATABASE", ":memory:"),
        ("PRODUCE_EVERY", "off"),
        ("STOP_WITH_STDIN", "1"),
    ] {
        command.env(format!("NINETABS_{key}"), value);
    }
    command.env_remove("RUST_LOG").env("TMPDIR", folder);
    command
}

/// Copies the arguments and the environment variables of one command to another.
fn copy_command(from: &Command, to: &mut Command) {
    to.args(from.get_args()).envs(from.get_envs().filter_map(|(key, value)| Some((key, value?))));
}

/// Runs a server that is expected to refuse to start, or to start and then to stop without an error.
fn serve(folder: &Path, args: &[&str]) -> Output {
    let mut command = ninetabs(folder, &[&["serve"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A server whose standard input is closed may stop before it has refused to start. So this is closed only after a
    // server has described itself.
    let stdin = child.stdin.take();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    while stdout.read_until(b'\n', &mut said).unwrap() > 0 && !said.ends_with(b"Ctrl-C stops.\n") {}
    drop(stdin);
    stdout.read_to_end(&mut said).unwrap();
    Output { stdout: said, ..child.wait_with_output().unwrap() }
}

/// Checks the exit status, and that stderr is a single line with these words.
fn one_line(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("ninetabs: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn a_pool_with_more_connections_than_descriptors_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let plain = ninetabs(folder.path(), &["serve", "--db-pool", "1000"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 200 && ulimit -Hn 200 && exec \"$@\"", "sh"]).arg(plain.get_program());
    command.args(plain.get_args()).stdin(Stdio::null()).current_dir(folder.path());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    one_line(&command.output().unwrap(), 1, &["--db-pool 1000", "ulimit -n"]);
}

#[test]
fn an_invalid_value_is_reported_in_one_line_with_the_flag_the_value_and_a_valid_value() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value, valid) in [
        ("--bind", "nonsense", "tcp://127.0.0.1:9292"),
        ("--bind", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:9292"),
        ("--bind", "tcp://127.0.0.1", "tcp://127.0.0.1:9292"),
        ("--control-url", "unix:///tmp/x", "tcp://127.0.0.1:9292"),
        ("--threads", "x", "8:8"),
        ("--threads", "0:0", "8:8"),
        ("--threads", "9:8", "8:8"),
        ("--threads", "-1:2", "8:8"),
        ("--threads", "1:99999", "10000"),
        ("--max-io-threads", "x", "10000"),
        ("--max-io-threads", "-1", "10000"),
        ("--max-io-threads", "18446744073709551615", "10000"),
        ("--auto-trim-time", "0", "500ms"),
        ("--front", "nginx", "tiny-http"),
        ("--update-rate", "0", "500ms"),
        ("--update-rate", "-2", "500ms"),
        ("--update-rate", "two", "500ms"),
        ("--max-stream-age", "0", "off"),
        ("--max-stream-age", "on", "off"),
        ("--max-stream-age-jitter", "101%", "100%"),
        ("--max-stream-age-jitter", "NaN", "100%"),
        ("--reap-every", "0s", "500ms"),
        ("--retry", "soon", "500ms"),
        ("--loop", "by-name", "by-id"),
        ("--produce-every", "0", "off"),
        ("--keep-models", "0", "1 or more"),
        ("--keep-models", "x", "1 or more"),
        ("--db-pool", "0", "auto"),
        ("--db-pool", "many", "auto"),
        ("--db-checkout-timeout", "0", "500ms"),
        ("--db-lease", "ever", "action"),
        ("--write-timeout", "0", "500ms"),
        ("--max-body-bytes", "0", "1048576"),
        ("--max-body-bytes", "1M", "1048576"),
        ("--force-shutdown-after", "1m", "500ms"),
        ("--nonesuch", "1", "--help"),
    ] {
        let output = serve(folder.path(), &[&format!("{flag}={value}")]);
        let value = if flag == "--nonesuch" { flag } else { value };
        one_line(&output, 2, &[flag, value, valid]);
    }
    for (args, words) in [
        (&["--threads"][..], &["--threads", "--help"][..]),
        (&["surplus"], &["surplus", "--help"]),
        (
            &["--notice-close", "poll", "--front", "tiny-http"],
            &["--notice-close", "tiny-http", "--front puma"],
        ),
        (&["--head-timeout", "9", "--front", "tiny-http"], &["--head-timeout", "tiny-http", "--front puma"]),
        (
            &["--max-connections", "9", "--front", "tiny-http"],
            &["--max-connections", "tiny-http", "--front puma"],
        ),
        (&["--retry", "1", "--retry", "2"], &["--retry", "give it once"]),
    ] {
        one_line(&serve(folder.path(), args), 2, words);
    }
    one_line(&ninetabs(folder.path(), &["nonesuch"]).output().unwrap(), 2, &["nonesuch", "--help"]);
    let by_environment = ninetabs(folder.path(), &["serve"]).env("NINETABS_THREADS", "x").output().unwrap();
    one_line(&by_environment, 2, &["ninetabs: NINETABS_THREADS=x: ", "8:8"]);
    // The variable is also named in an error that appears only when the server starts. It is not named if a flag
    // overrides it.
    let mut late = ninetabs(folder.path(), &["serve"]);
    one_line(
        &late.env("NINETABS_VIEWS", "/nowhere").output().unwrap(),
        1,
        &["--views /nowhere: ", "(NINETABS_VIEWS sets --views)"],
    );
    let mut typed = ninetabs(folder.path(), &["serve", "--threads", "y"]);
    one_line(&typed.env("NINETABS_THREADS", "8").output().unwrap(), 2, &["--threads 'y': "]);
    assert_eq!(names(folder.path()), [""; 0], "a file was left behind");
}

#[test]
fn the_longest_durations_and_largest_numbers_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = Vec::new();
    for flag in [
        "--auto-trim-time",
        "--update-rate",
        "--max-stream-age",
        "--reap-every",
        "--retry",
        "--produce-every",
        "--db-checkout-timeout",
        "--write-timeout",
        "--first-data-timeout",
        "--head-timeout",
        "--persistent-timeout",
        "--tcp-user-timeout",
        "--force-shutdown-after",
    ] {
        args.extend([flag, "10000000000000000000"]);
    }
    for flag in ["--keep-models", "--max-body-bytes", "--max-connections"] {
        args.extend([flag, "18446744073709551615"]);
    }
    let mut command = Server::command(folder.path());
    command.args(&args).args(["--threads", "0:2"]);
    let mut server = Server::spawn(command, folder);
    let (status, _) = create(server.app, "x");
    assert_eq!(status, 201, "{}", server.log());
    let mut stream = open_stream(server.app);
    server.signal(Signal::TERM);
    read_until(&mut stream, "retry: 10000000000000000000000\n");
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[test]
fn a_port_in_use_is_reported_with_the_flag_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    for flag in ["--bind", "--control-url"] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("models.sqlite3");
        let output = serve(folder.path(), &[flag, &address, "--database", database.to_str().unwrap()]);
        one_line(&output, 1, &[flag, &address, "in use", "another port"]);
        assert_eq!(names(folder.path()), [""; 0], "a file was left behind");
    }
}

#[test]
fn a_file_that_is_not_a_database_of_ninetabs_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "dear diary").unwrap();
    fs::write(path("long text"), "dear diary ".repeat(1000)).unwrap();
    let foreign = rusqlite::Connection::open(path("foreign")).unwrap();
    foreign.execute_batch("CREATE TABLE models (id, name); INSERT INTO models VALUES (1, 'theirs')").unwrap();
    drop(foreign);
    let mut ours = Server::start(&[]);
    for _ in 0..20 {
        create(ours.app, &"x".repeat(2000));
    }
    let database = ours.database();
    ours.signal(Signal::TERM);
    assert_eq!(ours.wait_for_exit().code(), Some(0));
    assert!(!database.with_extension("sqlite3-wal").exists(), "a stop must close the database");
    let mut bytes = fs::read(&database).unwrap();
    assert!(bytes.len() > 5 * 4096);
    bytes[2 * 4096..].fill(0xa5);
    fs::write(path("damaged"), &bytes).unwrap();
    fs::write(path("cut short"), &bytes[..5000]).unwrap();
    fs::create_dir(path("folder")).unwrap();

    let before = names(folder.path());
    let temporary = tempfile::tempdir().unwrap();
    for (name, word) in [
        ("text", "not a SQLite database"),
        ("long text", "not a SQLite database"),
        ("foreign", "another program"),
        ("damaged", "damaged"),
        ("cut short", "damaged"),
        ("folder", "cannot be read"),
        ("text/below", "cannot be read"),
        ("nowhere/models.sqlite3", "unable to open"),
    ] {
        let file = path(name);
        let bytes = fs::read(&file).ok();
        let output = serve(temporary.path(), &["--database", file.to_str().unwrap()]);
        one_line(&output, 1, &["--database", file.to_str().unwrap(), word, "another path"]);
        assert_eq!(fs::read(&file).ok(), bytes, "{name} was changed");
        assert_eq!(names(folder.path()), before, "{name}: a file was created beside it");
    }
}

#[test]
fn missing_views_and_an_unwritable_state_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("half/models")).unwrap();
    fs::write(path("half/application.css"), "").unwrap();
    fs::write(path("file"), "").unwrap();
    let before = names(folder.path());
    for (flag, name, words) in [
        ("--views", "nowhere", ["no such folder", "views/"]),
        ("--views", "file", ["no such folder", "views/"]),
        ("--views", "half", ["models/index.html", "views/"]),
        ("--state", "nowhere/state", ["--state", "give a path"]),
        ("--state", "file/state", ["--state", "give a path"]),
        ("--state", "half", ["--state", "give a path"]),
    ] {
        let output = serve(folder.path(), &[flag, &path(name)]);
        one_line(&output, 1, &[flag, &path(name), words[0], words[1]]);
        assert_eq!(names(folder.path()), before, "{flag} {name}: a file was left behind");
    }
}

#[test]
fn each_flag_has_an_environment_variable_and_overrides_it() {
    let folder = tempfile::tempdir().unwrap();
    let help = ninetabs(folder.path(), &["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut flags = 0;
    for flag in help.lines().filter_map(|line| line.trim().strip_prefix("--")) {
        let name = flag.split([' ', '=']).next().unwrap();
        let variable = format!("[env: NINETABS_{}", name.to_uppercase().replace('-', "_"));
        // The value of a secret is not shown.
        let is_there = |end| help.contains(&format!("{variable}{end}"));
        let is_secret = ["control-token", "database", "cable-database"].contains(&name);
        assert!(is_there("=") || (is_secret && is_there("]")), "{name} has no {variable}");
        flags += 1;
    }
    assert!(flags > 20, "{help}");

    let mut command = Server::command(folder.path());
    command.env("NINETABS_THREADS", "3:5").env("NINETABS_MAX_STREAM_AGE", "77").env("NINETABS_DB_POOL", "2");
    command.env("NINETABS_LOOP", "faithful").env("NINETABS_ALLOW_HOST", "a.example,b.example");
    command.args(["--db-pool", "4"]);
    let server = Server::spawn(command, folder);
    let stats = server.stats();
    assert_eq!((&stats["running"], &stats["max_threads"]), (&3.into(), &5.into()));
    assert_eq!(stats["database"]["size"], 4, "a flag must override the environment");
    let mut stream = send(server.app, b"GET /models/live_stream HTTP/1.0\r\nHost: b.example\r\n\r\n");
    assert!(read_until(&mut stream, "data: []").ends_with("\r\n\r\ndata: []\n\n"));
}

#[test]
fn the_state_file_has_the_addresses_and_is_removed_at_a_stop() {
    let mut server = Server::start(&["--control-token", "s3cret"]);
    let state = server.folder.path().join("state");
    let here = std::env::current_dir().unwrap();
    let wanted = format!(
        "---\npid: {}\ncontrol_url: tcp://{}\ncontrol_auth_token: s3cret\nrunning_from: \"{}\"\nbind: tcp://{}\n",
        server.child.id(),
        server.control,
        here.display(),
        server.app
    );
    assert_eq!(fs::read_to_string(&state).unwrap(), wanted);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&state).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "other users must not be able to read the token");
    assert_eq!(json(server.control, "GET", "/stats?token=s3cret").0, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(!state.exists());
}

#[test]
fn the_start_up_message_has_the_addresses_and_the_nine_tabs() {
    let (server, _stdout, said) = start_and_hear(&[], "Ctrl-C stops.");
    let tab = |n| format!("http://tab{n}.localhost:{}", server.app.port());
    let app: SocketAddr = server.app;
    for wanted in [tab(1), tab(9), format!("http://{app}/"), format!("http://{}/wall", server.control)] {
        assert!(said.contains(&wanted), "{wanted} is not in {said}");
    }
    assert!(said.contains("with 8 threads") && said.lines().count() < 12, "{said}");
}

#[test]
fn help_man_page_and_completions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    for (args, wanted) in [
        (&["--help"][..], &["serve", "--max-stream-age"][..]),
        (&["-h"], &["serve"]),
        (&["serve", "--help"], &["--max-stream-age", "default: off]", "NINETABS_THREADS", "Possible values"]),
        (&["--version"], &[env!("CARGO_PKG_VERSION")]),
        (
            &["man"],
            &[".TH", "max\\-stream\\-age", "ninetabs\\-serve", "ninetabs\\-ctl\\-resize", "NINETABS_THREADS"],
        ),
        (&["completions", "bash"], &["complete -F", "--max-stream-age", "by-id faithful"]),
        (&["completions", "zsh"], &["#compdef ninetabs", "--max-stream-age"]),
        (&["completions", "fish"], &["complete -c ninetabs", "max-stream-age"]),
    ] {
        let output = ninetabs(folder.path(), args).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
        for word in wanted {
            assert!(said.contains(word), "{args:?} has no {word}: {said}");
        }
        let mut unread = ninetabs(folder.path(), args);
        unread.stdout(closed_pipe()).stderr(Stdio::piped());
        let output = unread.output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{args:?}, closed pipe"
        );
    }
    one_line(&ninetabs(folder.path(), &["completions", "tcsh"]).output().unwrap(), 2, &["tcsh", "bash"]);
}

/// Every command that prints reports a full disk in one line and with status 1, and treats a closed
/// pipe as success. (Rust opens /dev/null in place of a closed descriptor.)
#[test]
fn lost_output_is_not_success() {
    let server = Server::start(&[]);
    let state = server.folder.path().join("state").to_str().unwrap().to_owned();
    let stream = server.url("/models/live_stream?last_event_id=0");
    create(server.app, "x");
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["help", "serve"],
        &["serve", "--help"],
        &["ctl", "--help"],
        &["man"],
        &["completions", "bash"],
        &["ctl", "stats", "--state", &state],
        &["ctl", "status", "--state", &state],
        &["top", "--once", "--state", &state],
        &["tab", "--events", "1", "--last-event-id", "0", &stream],
        &["simulate", "--for", "10"],
        &["simulate", "--for", "10", "--json"],
        &["reproduce", "--fast", "--act", "1", "--tabs", "1"],
        &["reproduce", "--fast", "--act", "1", "--tabs", "1", "--json"],
        &["compare", "--fast", "--only", "poll", "--tabs", "100", "--markdown"],
    ] {
        let with = |stdout: Stdio| {
            let mut command = ninetabs(folder.path(), args);
            command.env_remove("NINETABS_CONTROL_URL").stdout(stdout).stderr(Stdio::piped());
            command.output().unwrap()
        };
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = with(full.into());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output") && said.contains("No space left"), "{args:?}: {said}");
        // The status of this command depends on whether its claims hold on this machine.
        let is_measured = args[0] == "compare";
        if !is_measured {
            assert_eq!(with(closed_pipe().into()).status.code(), Some(0), "{args:?}, closed pipe");
        }
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >&-", "sh", env!("CARGO_BIN_EXE_ninetabs")]).args(args);
        let output = command.env("TMPDIR", folder.path()).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code();
        let is_as_with_null = if is_measured { matches!(status, Some(0 | 1)) } else { status == Some(0) };
        assert!(
            is_as_with_null && !said.contains("panicked"),
            "{args:?}, closed standard output: {status:?}: {said}"
        );
    }
    assert_eq!(names(folder.path()), [""; 0], "a file was left behind");
}

/// The write end of a pipe whose read end is closed.
fn closed_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn it_keeps_serving_after_its_output_pipes_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.stdout(closed_pipe()).stderr(closed_pipe());
    let mut server = Server::spawn(command, folder);
    let mut stream = open_stream(server.app);
    assert_eq!(create(server.app, "x").0, 201);
    read_until(&mut stream, "\"name\":\"x\"");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));

    let folder = tempfile::tempdir().unwrap();
    let mut wrong = ninetabs(folder.path(), &["serve", "--threads", "x"]);
    assert_eq!(wrong.stderr(closed_pipe()).status().unwrap().code(), Some(2));
}

/// The output of a command, which must end within `PATIENCE`. Otherwise it is killed, and the test fails.
fn output_in_time(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = common::poll(common::PATIENCE, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "the command did not end in time: {command:?}: {output:?}");
    output
}

fn make(program: &str, path: &Path, more: &[&str]) -> bool {
    Command::new(program).arg(path).args(more).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn no_path_flag_waits_for_a_pipe_or_replaces_anything_except_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(make("mkfifo", Path::new(&path("fifo")), &[]));
    let has_device = make("mknod", Path::new(&path("device")), &["c", "1", "3"]);
    fs::create_dir(path("folder")).unwrap();
    let before = names(folder.path());
    let temporary = tempfile::tempdir().unwrap();
    for (command, flag) in [
        (&["serve"][..], "--database"),
        (&["serve"], "--trace"),
        (&["serve"], "--state"),
        (&["serve"], "--views"),
        (&["reproduce"], "--report"),
        (&["reproduce"], "--svg"),
        (&["reproduce"], "--trace"),
        (&["compare"], "--report"),
        (&["simulate"], "--svg"),
        (&["probe", "http://127.0.0.1:1/"], "--report"),
        (&["ctl", "stats"], "--state"),
        (&["top", "--once"], "--state"),
    ] {
        for name in ["fifo", "folder"] {
            let mut given = ninetabs(temporary.path(), command);
            given.args([flag, &path(name)]).env_remove("NINETABS_CONTROL_URL");
            let output = output_in_time(given);
            one_line(&output, 1, &[flag, &path(name)]);
        }
    }
    if has_device {
        for (command, flag) in [
            (&["serve"][..], "--database"),
            (&["serve"], "--views"),
            (&["ctl", "stats"], "--state"),
            (&["top", "--once"], "--state"),
        ] {
            let mut given = ninetabs(temporary.path(), command);
            given.args([flag, &path("device")]).env_remove("NINETABS_CONTROL_URL");
            let output = output_in_time(given);
            one_line(&output, 1, &[flag, &path("device")]);
        }
    }
    assert_eq!(names(folder.path()), before);
    assert_eq!(names(temporary.path()), [""; 0], "a file was left behind");
}

#[test]
fn a_start_that_is_refused_because_of_a_path_changes_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(make("mkfifo", Path::new(&path("fifo")), &[]));
    fs::write(path("old"), "old").unwrap();
    let before = names(folder.path());
    let temporary = tempfile::tempdir().unwrap();
    // /dev/full fails only at the first write.
    for bad in [path("nowhere/x"), path("fifo"), "/dev/full".to_owned()] {
        for (flag, other) in [("--state", "--trace"), ("--trace", "--state")] {
            for good in ["old", "new"] {
                let mut given = ninetabs(temporary.path(), &["serve", "--database", &path("database")]);
                given.args([flag, &bad, other, &path(good)]);
                one_line(&output_in_time(given), 1, &[flag, &bad, "give a path that can be written"]);
                let what = format!("{flag} {bad} {other} {good}");
                assert_eq!(fs::read_to_string(path("old")).unwrap(), "old", "{what}");
                assert_eq!(names(folder.path()), before, "{what}: a file was left behind");
            }
        }
    }
    // An existing database is kept, with its contents.
    let mut given = ninetabs(temporary.path(), &["serve", "--database", &path("database")]);
    assert_eq!(output_in_time(given).status.code(), Some(0));
    given = ninetabs(temporary.path(), &["serve", "--database", &path("database"), "--state", "/dev/full"]);
    one_line(&output_in_time(given), 1, &["--state /dev/full"]);
    assert!(fs::metadata(path("database")).unwrap().len() > 0);
}

#[test]
fn a_write_to_dev_stdout_appends_to_the_redirected_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (flag, wanted) in [("--state", "control_url:"), ("--trace", "process_name")] {
        fs::write(&path, "before\n".repeat(100)).unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let mut command = ninetabs(folder.path(), &["serve", flag, "/dev/stdout"]);
        let status = command.stdout(file).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&"before\n".repeat(100)), "{flag}: {text}");
        assert!(text.contains(wanted) && text.contains("Goodbye"), "{flag}: {text}");
    }
    // If standard output is a socket, /dev/stdout cannot be opened.
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = ninetabs(folder.path(), &["serve", "--state", "/dev/stdout"]);
    let writer = std::os::fd::OwnedFd::from(writer);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("control_url:"), "{text}");
}

#[test]
fn a_file_in_a_folder_of_another_user_is_written_in_place() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = as_another_user(folder.path()) else { return };
    let state = folder.path().join("state");
    fs::write(&state, "old").unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    for theirs in [&state, &temporary] {
        chown(theirs, Some(65534), Some(65534)).unwrap();
    }
    set_mode(folder.path(), 0o755);
    set_mode(&state, 0o644);
    let inode = fs::metadata(&state).unwrap().ino();
    copy_command(&ninetabs(folder.path(), &["serve", "--database", ":memory:", "--state"]), &mut command);
    command.arg(&state).env_remove("NINETABS_STOP_WITH_STDIN");
    command.env("TMPDIR", &temporary).current_dir("/").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    common::hear(&mut std::io::BufReader::new(child.stdout.take().unwrap()), "Ctrl-C stops.");
    let (text, there) = (fs::read_to_string(&state).unwrap(), fs::metadata(&state).unwrap());
    assert!(text.contains(&format!("pid: {}\n", child.id())), "{text}");
    assert_eq!((there.ino(), there.mode() & 0o777), (inode, 0o600));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&state).unwrap(), "", "the state file must be emptied");
}

#[test]
fn a_token_is_not_written_into_the_file_of_another_user() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = as_another_user(folder.path()) else { return };
    let state = folder.path().join("state");
    fs::write(&state, "theirs").unwrap();
    set_mode(folder.path(), 0o1777);
    set_mode(&state, 0o666);
    copy_command(&ninetabs(folder.path(), &["serve", "--state", state.to_str().unwrap()]), &mut command);
    command.env("NINETABS_CONTROL_TOKEN", "s3cret-s3cret");
    one_line(&command.output().unwrap(), 1, &["--state", "operation not permitted"]);
    assert_eq!(fs::read_to_string(&state).unwrap(), "theirs");
    assert_eq!(names(folder.path()), ["ninetabs", "state"]);
}

#[test]
fn two_flags_may_name_the_same_device() {
    let folder = tempfile::tempdir().unwrap();
    let output = serve(folder.path(), &["--state", "/dev/null", "--trace", "/dev/null"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn devices_pipes_and_links_at_the_path_of_an_output_file_survive_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let has_device = make("mknod", &path("device"), &["c", "1", "3"]);
    assert!(make("mkfifo", &path("fifo"), &[]));
    for name in ["state link", "trace link"] {
        std::os::unix::fs::symlink(name.replace(" link", ""), path(name)).unwrap();
    }
    fs::write(path("state"), "old").unwrap();
    fs::write(path("trace"), "old").unwrap();
    let before = names(folder.path());

    let reader = open_pipe(&path("fifo"));
    let pairs = [("state link", "trace link"), ("state", "fifo"), ("fifo", "trace")];
    for (state, trace) in pairs {
        run_with(&path(state), &path(trace));
        let what = format!("{state}, {trace}");
        for link in ["state link", "trace link"] {
            assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{what}");
        }
        let left = names(folder.path());
        assert!(!left.contains(&"state".to_owned()), "{what}: the state file was not removed");
        for name in before.iter().filter(|name| *name != "state") {
            assert!(left.contains(name), "{what}: {name} is gone");
        }
    }
    if has_device {
        use std::os::unix::fs::FileTypeExt;
        for (state, trace) in [("device", "trace"), ("state", "device")] {
            run_with(&path(state), &path(trace));
        }
        assert!(fs::symlink_metadata(path("device")).unwrap().file_type().is_char_device());
    }
    assert!(fs::read_to_string(path("trace")).unwrap().starts_with('['));
    drop(reader);
}

/// Starts a thread that reads everything from a named pipe until the test process ends.
fn open_pipe(path: &Path) -> std::thread::JoinHandle<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // The pipe is opened for reading and writing, so that opening it does not wait for a writer and reading does not
    // end when a writer closes it.
    let file = fs::OpenOptions::new().read(true).write(true).custom_flags(0).open(path).unwrap();
    std::thread::spawn(move || {
        let mut file = file;
        let mut bytes = [0; 4096];
        while std::io::Read::read(&mut file, &mut bytes).is_ok_and(|read| read > 0) {}
    })
}

/// Starts a server with these two files, and stops it.
fn run_with(state: &Path, trace: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ninetabs(folder.path(), &["serve"]);
    command.arg("--state").arg(state).arg("--trace").arg(trace).stdout(Stdio::piped());
    command.env_remove("NINETABS_STOP_WITH_STDIN");
    let mut child = command.spawn().unwrap();
    common::hear(&mut std::io::BufReader::new(child.stdout.take().unwrap()), "Ctrl-C stops.");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let status = common::wait_for("the end of the server", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{state:?}, {trace:?}");
}

#[test]
fn a_state_file_that_another_server_has_replaced_stays() {
    let mut first = Server::start(&[]);
    let state = first.folder.path().join("state");
    let mut second = first.beside(&["--trace", "/dev/null"]);
    fs::rename(second.folder.path().join("state"), &state).unwrap();
    first.signal(Signal::TERM);
    assert_eq!(first.wait_for_exit().code(), Some(0));
    assert!(fs::read_to_string(&state).unwrap().contains(&second.child.id().to_string()));
    second.signal(Signal::TERM);
    assert_eq!(second.wait_for_exit().code(), Some(0), "a stop must not fail because its state file is gone");
}

#[test]
fn two_flags_cannot_name_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("views/models")).unwrap();
    for name in ["db", "views/models/index.html", "program"] {
        fs::write(path(name), "").unwrap();
    }
    fs::hard_link(path("db"), path("hard")).unwrap();
    std::os::unix::fs::symlink("db", path("link")).unwrap();
    let before = names(folder.path());
    for (command, first, one, second, other) in [
        ("serve", "--database", "db", "--state", "db"),
        ("serve", "--database", "db", "--trace", "hard"),
        ("serve", "--database", "link", "--state", "db-wal"),
        ("serve", "--database", "db", "--trace", "db-journal"),
        ("serve", "--database", "new", "--state", "new-shm"),
        ("serve", "--state", "new", "--trace", "views/../new"),
        ("serve", "--views", "views", "--trace", "views/models/index.html"),
        ("serve", "--views", "views", "--database", "views/models/index.html"),
        ("reproduce", "--report", "new", "--svg", "new"),
        ("reproduce", "--trace", "link", "--svg", "hard"),
        ("reproduce", "--program", "program", "--report", "program"),
        ("compare", "--program", "program", "--report", "program"),
    ] {
        let output =
            output_in_time(ninetabs(folder.path(), &[command, first, &path(one), second, &path(other)]));
        one_line(&output, 2, &[first, second, "name the same file", "give two different files"]);
    }
    let output =
        output_in_time(ninetabs(folder.path(), &["serve", "--state", "new", "--trace", &path("new")]));
    one_line(&output, 2, &["--state", "--trace"]);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_control_server_that_other_hosts_can_reach_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0", "[::]", "192.0.2.1", "[::ffff:0.0.0.0]", "[::ffff:192.0.2.1]", "[2001:db8::1]"]
    {
        let url = format!("tcp://{address}:9293");
        let output = serve(folder.path(), &["--control-url", &url]);
        one_line(&output, 2, &["--control-url", "--control-token", "tcp://127.0.0.1:9293"]);
        let by_variable =
            ninetabs(folder.path(), &["serve"]).env("NINETABS_CONTROL_URL", &url).output().unwrap();
        one_line(&by_variable, 2, &["NINETABS_CONTROL_URL", "--control-token"]);
    }
    for address in ["127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]"] {
        let output = serve(folder.path(), &["--control-url", &format!("tcp://{address}:0")]);
        assert_eq!(output.status.code(), Some(0), "{address}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = serve(folder.path(), &["--control-url", "tcp://0.0.0.0:0", "--control-token", "s3cret"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("can be guessed") && !said.contains("s3cret"), "{said}");
}

#[test]
fn the_control_token_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let file = path.to_str().unwrap();
    fs::write(&path, "s3cret\n").unwrap();
    let server = Server::start(&["--control-token-file", file]);
    assert_eq!(json(server.control, "GET", "/stats").0, 403);
    assert_eq!(json(server.control, "GET", "/stats?token=s3cret").0, 200);
    let url = format!("tcp://{}", server.control);
    let output =
        ninetabs(folder.path(), &["ctl", "stats", "--control-url", &url, "--control-token-file", file])
            .env_remove("NINETABS_CONTROL_URL")
            .output()
            .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    one_line(
        &serve(folder.path(), &["--control-token-file", "nowhere"]),
        1,
        &["--control-token-file nowhere"],
    );
    let both = ["--control-token-file", file, "--control-token", "other"];
    one_line(&serve(folder.path(), &both), 2, &["--control-token-file", "--control-token"]);
    one_line(&serve(folder.path(), &["--control-token", "x"]), 2, &["--control-token", "3"]);
}

#[test]
fn nothing_prints_the_token() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "two words of s3cret\n").unwrap();
    for token in ["s3cret", "a s3cret"] {
        for args in [
            &["--help"][..],
            &["-h"],
            &["serve", "--help"],
            &["serve", "-h"],
            &["help", "serve"],
            &["ctl", "--help"],
            &["ctl", "stats", "-h"],
            &["top", "--help"],
            &["man"],
            &["completions", "bash"],
            &["completions", "zsh"],
            &["completions", "fish"],
            &["ctl", "stats"],
            &["top", "--once"],
            &["serve"],
            &["serve", "--control-token-file", "token"],
            &["serve", "--bind", "nonsense"],
            &["ctl", "--control-url", "tcp://127.0.0.1:1", "stats"],
        ] {
            let mut command = ninetabs(folder.path(), args);
            command.env("NINETABS_CONTROL_TOKEN", token).env("RUST_LOG", "trace");
            let Output { stdout, stderr, .. } = command.output().unwrap();
            let said = [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat();
            assert!(!said.contains("s3cret"), "{args:?}: {said}");
        }
    }
}

/// The http URLs in a text.
fn addresses(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|word| word.starts_with("http://")).collect()
}

#[test]
fn every_printed_address_answers_200_on_every_kind_of_bind() {
    const BINDS: [&str; 7] =
        ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "127.0.0.2"];
    let token = "s3cret-s3cret-s3cret";
    let flags = [&[][..], &["--threads", "3:3"], &["--fix", "io-threads"]];
    let apps = BINDS.iter().flat_map(|bind| flags.map(|flags| (*bind, "127.0.0.1", flags)));
    let guarded = ["--control-token", token];
    let controls = BINDS.iter().map(|bind| ("127.0.0.1", *bind, &guarded[..]));
    let both = BINDS.iter().map(|bind| (*bind, *bind, &guarded[..]));
    for (bind, control, flags) in apps.chain(controls).chain(both) {
        let folder = tempfile::tempdir().unwrap();
        let args = [
            "serve",
            "--database",
            ":memory:",
            "--stop-with-stdin",
            "--bind",
            &format!("tcp://{bind}:0"),
            "--control-url",
            &format!("tcp://{control}:0"),
            "--state",
            "state",
        ];
        let mut command = ninetabs(folder.path(), &args);
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = hear(&mut BufReader::new(child.stdout.take().unwrap()), "Ctrl-C stops.");
        assert!(addresses(&said).len() >= 4, "{bind}: {said}");
        for page in ["wall", "dashboard", "fixes"] {
            let mut command = ninetabs(folder.path(), &[page, "--state", "state"]);
            let output = command.env_remove("NINETABS_CONTROL_URL").output().unwrap();
            let address = String::from_utf8(output.stdout).unwrap();
            assert_eq!(addresses(&address).len(), 1, "{page}: {address}");
            said += &address;
        }
        // A stream does not end, so its address is checked by another test.
        for address in addresses(&said).into_iter().filter(|it| !it.ends_with("live_stream")) {
            // The app ignores this parameter.
            let opened = match flags.contains(&"--control-token") && !address.contains('?') {
                true => format!("{address}?token={token}"),
                false => address.to_owned(),
            };
            // The lab's client resolves names under localhost in the same way as a browser.
            let answer = ninetabs::lab::http::get(&opened, common::PATIENCE);
            let status =
                answer.unwrap_or_else(|error| panic!("{bind}, {control}: {address}: {error}")).status();
            assert_eq!(status, 200, "{bind}, {control}: {address} in {said}");
        }
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

/// Kubernetes sets these variables for a service named ninetabs.
#[test]
fn variables_of_a_kubernetes_service_are_reported_and_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let service = [
        ("NINETABS_PORT", "tcp://10.0.0.1:80"),
        ("NINETABS_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("NINETABS_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("NINETABS_SERVICE_HOST", "10.0.0.1"),
        ("NINETABS_SERVICE_PORT", "80"),
    ];
    let output = ninetabs(folder.path(), &["serve"]).envs(service).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for (name, _) in service {
        assert!(said.contains(&format!("] {name} is ignored: there is no such variable\n")), "{said}");
    }
    assert!(!said.contains("did you mean"), "{said}");
}

#[test]
fn a_variable_for_a_flag_that_the_command_lacks_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let help = ninetabs(folder.path(), &["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let all: Vec<_> =
        help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap()).collect();
    assert!(all.len() > 20, "{help}");
    let own =
        ["NINETABS_CONTROL_URL", "NINETABS_CONTROL_TOKEN", "NINETABS_CONTROL_TOKEN_FILE", "NINETABS_BIND"];
    let control = ["--control-url", "tcp://127.0.0.1:1"];
    for (args, own, status) in [
        (&["man"][..], &[][..], 0),
        (&["completions", "bash"], &[], 0),
        (&["help", "serve"], &[], 0),
        (&["tab", "--for", "1ms", "http://127.0.0.1:1/"], &[], 0),
        (&["wall"], &own, 0),
        (&["fixes"], &own, 0),
        (&["ctl", control[0], control[1], "stats"], &own[..3], 1),
        (&["ctl", "resize", "--min", "1", control[0], control[1]], &own[..3], 1),
        (&["top", "--once", control[0], control[1]], &own[..3], 1),
    ] {
        let mut command = ninetabs(folder.path(), args);
        for name in &all {
            match own.contains(name) {
                true => command.env_remove(name),
                false => command.env(name, "no such value"),
            };
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(!said.contains("NINETABS_"), "{args:?}: {said}");
    }
    // The server accepts only tcp:// in this variable, and the clients accept unix:// as well.
    for args in [&["ctl", "stats"][..], &["ctl", "status"], &["top", "--once"]] {
        let mut command = ninetabs(folder.path(), args);
        let output = command.env("NINETABS_CONTROL_URL", "unix:///nowhere/x").output().unwrap();
        one_line(&output, 1, &["unix:///nowhere/x"]);
    }
    let mut command = ninetabs(folder.path(), &[]);
    let output = command.env("NINETABS_CONTROL_URL", "unix:///nowhere/x").output().unwrap();
    one_line(&output, 2, &["NINETABS_CONTROL_URL=unix:///nowhere/x: ", "tcp://"]);
}

#[test]
fn the_command_line_overrides_the_environment() {
    let server = Server::start(&["--control-token", "s3cret"]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let url = format!("tcp://{}", server.control);
    let (token, file) = ("NINETABS_CONTROL_TOKEN", "NINETABS_CONTROL_TOKEN_FILE");
    let ctl = |args: &str, variables: &[(&str, &str)]| {
        let args: Vec<_> = args.split(' ').collect();
        let mut command = ninetabs(folder.path(), &args);
        command.env("NINETABS_CONTROL_URL", &url).envs(variables.iter().copied());
        command.output().unwrap()
    };
    for (args, variables) in [
        ("ctl --control-token s3cret stats", &[(file, "nowhere")][..]),
        ("ctl stats --control-token s3cret", &[(file, "nowhere")]),
        ("ctl --control-token s3cret stats", &[(token, "wrong"), (file, "nowhere")]),
        ("ctl stats --control-token-file token", &[(token, "wrong")]),
        ("ctl --control-token-file token stats", &[(token, "a b")]),
        ("top --once --control-token s3cret", &[(file, "nowhere")]),
        (
            &format!("ctl --control-url {url} --control-token s3cret stats"),
            &[("NINETABS_CONTROL_URL", "bad")],
        ),
        (
            &format!("ctl stats --control-url {url} --control-token s3cret"),
            &[("NINETABS_CONTROL_URL", "bad")],
        ),
    ] {
        let output = ctl(args, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args}, {variables:?}: {said}");
    }
    for args in [&["serve"][..], &[]] {
        let typed = [args, &["--control-token", "s3cret"]].concat();
        let mut command = ninetabs(folder.path(), &typed);
        let output = command.env(file, "nowhere").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    // Two values from the same source are a conflict, and the error names that source.
    for args in ["ctl stats", "serve", "top --once"] {
        let both = ctl(args, &[(token, "s3cret"), (file, "token")]);
        one_line(
            &both,
            2,
            &["ninetabs: NINETABS", token, file, " cannot be used with ", "give only one of them"],
        );
    }
    let both = ctl("ctl stats --control-token s3cret --control-token-file token", &[]);
    one_line(&both, 2, &["--control-token cannot be used with --control-token-file: give only one of them"]);
    one_line(&ctl("ctl stats", &[(token, "a b")]), 2, &["ninetabs: NINETABS_CONTROL_TOKEN: give a token"]);
    one_line(
        &ctl("ctl stats", &[(file, "nowhere")]),
        1,
        &["(NINETABS_CONTROL_TOKEN_FILE sets --control-token-file)"],
    );
    one_line(&ctl("serve", &[(token, "a b")]), 2, &["ninetabs: NINETABS_CONTROL_TOKEN: give a token"]);
}

/// Compose files leave a variable unset in this way: `NINETABS_THREADS=`.
#[test]
fn an_empty_variable_counts_as_unset() {
    let folder = tempfile::tempdir().unwrap();
    let help = ninetabs(folder.path(), &["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names: Vec<_> =
        help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap()).collect();
    assert!(names.len() > 20, "{help}");
    let mut command = Server::command(folder.path());
    for name in names.iter().filter(|name| **name != "NINETABS_DATABASE") {
        command.env(name, "");
    }
    for name in ["RUST_LOG", "RUST_LOG_STYLE", "NO_COLOR", "TMPDIR", "TERM"] {
        command.env(name, "");
    }
    let server = Server::spawn(command, folder);
    let stats = server.stats();
    assert_eq!((&stats["max_threads"], &stats["database"]["size"]), (&8.into(), &8.into()));
    drop(open_stream(server.app));
    common::wait_for("a line at level info", || server.log().contains(" INFO").then_some(()));

    let folder = tempfile::tempdir().unwrap();
    for args in [&["ctl", "stats"][..], &["top", "--once"], &["wall"]] {
        let mut command = ninetabs(folder.path(), args);
        let args_end = command
            .env("NINETABS_CONTROL_URL", "")
            .env("NINETABS_CONTROL_TOKEN", "")
            .env("NINETABS_BIND", "");
        let output = args_end.output().unwrap();
        assert_ne!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

#[test]
fn a_command_named_after_a_page_prints_the_address_of_the_page() {
    let server = Server::start(&[]);
    let state = server.folder.path().join("state");
    for (command, path) in [("wall", "wall"), ("dashboard", "the dashboard"), ("fixes", "fixes")] {
        let mut asked = ninetabs(server.folder.path(), &[command, "--state", state.to_str().unwrap()]);
        let output = asked.env_remove("NINETABS_CONTROL_URL").output().unwrap();
        let address = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{path}");
        let (host, path) = address.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        let answer = common::ask(host.parse().unwrap(), &request);
        assert!(answer.starts_with("HTTP/1.0 200"), "{address}: {answer}");
    }

    let guarded = Server::start(&["--control-token", "s3cret-s3cret-s3cret"]);
    let state = guarded.folder.path().join("state");
    let mut asked = ninetabs(guarded.folder.path(), &["wall", "--state", state.to_str().unwrap()]);
    let output = asked.env_remove("NINETABS_CONTROL_URL").output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(said.contains("append ?token= and the control token") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_command_named_after_a_page_explains_without_a_server_that_serve_provides_the_page() {
    let folder = tempfile::tempdir().unwrap();
    for (command, said) in [("wall", "the wall is a page"), ("fixes", "the list of fixes is a page")] {
        // Nothing listens on port 1, because it is below the ephemeral ports.
        let output =
            ninetabs(folder.path(), &[command, "--control-url", "http://127.0.0.1:1"]).output().unwrap();
        let words =
            [said, "of `ninetabs serve`: cannot connect to tcp://127.0.0.1:1: connection refused. Start"];
        one_line(&output, 0, &words);
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("http://127.0.0.1:"), "{command}");
    }
}

#[test]
fn no_help_prints_the_value_of_a_secret_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["serve", "-h"],
        &["serve", "--help"],
        &["ctl", "--help"],
        &["ctl", "reap", "--help"],
        &["top", "--help"],
        &["wall", "--help"],
        &["man"],
        &["completions", "bash"],
        &["serve", "--nonesuch"],
    ] {
        let output = ninetabs(folder.path(), args).env("NINETABS_CONTROL_TOKEN", "s3cret").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains("s3cret"), "{args:?}");
    }
}

/// Starts a server, reads its start-up message and stops it.
fn start_up_message(flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ninetabs(folder.path(), &[&["serve"], flags].concat());
    // The end of standard input stops the server, even if the test fails.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let said = hear(&mut stdout, "Ctrl-C stops.");
    drop(child.stdin.take());
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    child.wait().unwrap();
    said
}

#[test]
fn the_start_up_message_describes_the_effect_of_the_flags() {
    let other = "http://127.0.0.1:9294";
    for (flags, sentences) in [
        (&["--threads", "3:3"][..], &["Open 4 tabs. 3 stream; tab 4 waits for a thread:"][..]),
        (
            &["--max-io-threads", "5"],
            &["Open 14 tabs. 13 stream (8 threads + 5 IO-bound); tab 14 waits for a thread:"],
        ),
        (&["--fix", "more-threads"], &["All nine tabs stream; the limit is 64."]),
        (
            &["--stream-cap", "6"],
            &[
                "6 tabs stream. Tab 7 is refused at once and retries after 3 s; 2 threads stay available for pages.",
            ],
        ),
        (&["--max-stream-age", "5"], &["Tabs beyond 8 take turns of at most 5 s."]),
        (&["--db-pool", "5"], &["5 database connections for 8 threads: tab 6 gets an empty 200 after 5 s"]),
        (&["--notice-close", "poll"], &["The thread of a closed tab is freed within milliseconds."]),
        (&["--loop", "faithful"], &["The article's loop: no ids, and rows are lost between two queries."]),
        (
            &["--front", "tiny-http"],
            &["tiny_http front: one thread per connection, no reactor, loopback only."],
        ),
        (
            &["--fix", "other-server"],
            &["The streams are at http://127.0.0.1:9294", "  ninetabs serve --bind tcp://127.0.0.1:9294 "],
        ),
        (
            &["--streams-at", other],
            &["--allow-origin 'http://127.0.0.1:", ",http://localhost:", ",http://*.localhost:"],
        ),
        (&["--database", ":memory:"], &["  Database   :memory: ", "deleted when the server stops"]),
        (&["--bind", "tcp://0.0.0.0:0"], &["The app listens beyond this machine.", "--allow-host HOST"]),
    ] {
        let said = start_up_message(flags);
        for sentence in sentences {
            assert!(said.contains(sentence), "{flags:?}: no {sentence:?} in {said}");
        }
    }
}

#[test]
fn every_address_in_the_start_up_message_is_served() {
    for bind in ["tcp://0.0.0.0:0", "tcp://127.0.0.1:0"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = ninetabs(folder.path(), &["serve", "--bind", bind]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let said = hear(&mut stdout, "Ctrl-C stops.");
        let addresses: Vec<_> =
            said.split_whitespace().filter_map(|word| word.strip_prefix("http://")).collect();
        assert_eq!(addresses.len(), 5, "{said}");
        for address in addresses {
            let (host, path) = address.split_once('/').unwrap();
            // Names under localhost resolve to loopback.
            let port = host.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
            let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
            let answer = common::ask(([127, 0, 0, 1], port).into(), &request);
            assert!(answer.starts_with("HTTP/1.0 200"), "{address}: {answer}");
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

fn the_start_up_message_counts_the_rows_of_earlier_runs(engine: EngineKind) {
    let mut server = engine.server(&[]);
    for _ in 0..3 {
        create(server.app, "a row");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let mut command = server.command_beside(folder.path());
    command.stdout(Stdio::piped());
    let mut server = Server::spawn(command, folder);
    let mut stdout = BufReader::new(server.child.stdout.take().unwrap());
    let said = hear(&mut stdout, "Ctrl-C stops.");
    assert!(said.contains("kept; 3 rows from earlier runs"), "{said}");
}
