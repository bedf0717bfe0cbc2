//! A model whose creation was answered with 201 still exists after the process was killed.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::{self, Server, create, json, wait_for};
use ninetabs::lab::http;
use rustix::process::Signal;
use tempfile::TempDir;

/// The total number of answers to all writers before each kill.
const ANSWERED_BEFORE_KILL: usize = 200;
const WRITERS: usize = 4;

fn start(folder: &tempfile::TempDir) -> Server {
    let path = folder.path().join("models.sqlite3");
    Server::start(&["--database", path.to_str().unwrap(), "--keep-models", "1000000"])
}

/// Creates models until the server has been killed, and records each one that was answered with 201.
fn write_until_it_is_gone(server: &Server, writer: usize, answered: &Mutex<Vec<(i64, String)>>) {
    for n in 0.. {
        let name = format!("writer {writer} model {n}");
        let body = serde_json::json!({ "name": name }).to_string();
        let url = server.url("/models");
        let Ok(answer) = http::post(&url, "application/json", body, common::PATIENCE) else { return };
        assert_eq!(answer.status(), 201, "{}", answer.text());
        // An answer that the kill cut off does not count.
        let Ok(model) = answer.json() else { return };
        answered.lock().unwrap().push((model["id"].as_i64().unwrap(), name));
    }
}

#[test]
fn every_model_that_was_answered_with_201_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let answered = Mutex::new(Vec::new());
    for round in 1..=3 {
        let mut server = start(&folder);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let (server, answered) = (&server, &answered);
                        move || write_until_it_is_gone(server, round * WRITERS + writer, answered)
                    })
                })
                .collect();
            wait_for("the answers", || {
                (answered.lock().unwrap().len() >= round * ANSWERED_BEFORE_KILL).then_some(())
            });
            // Kills the server at a random moment.
            thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
            server.signal(Signal::KILL);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        assert!(!server.wait_for_exit().success());
        drop(server);

        let server = start(&folder);
        let there = common::all_models(server.app);
        let there: std::collections::HashMap<i64, &str> = there
            .iter()
            .map(|model| (model["id"].as_i64().unwrap(), model["name"].as_str().unwrap()))
            .collect();
        let answered = answered.lock().unwrap();
        for (id, name) in answered.iter() {
            assert_eq!(there.get(id), Some(&name.as_str()), "model {id} is missing after round {round}");
        }
    }
}

/// A file system of one megabyte. Unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts the file system. If this user may not do that, prints a message and returns `None`.
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mount = |options: &str| {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", options, "none"]).arg(folder.path());
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if !mount("size=1m") {
            eprintln!("skipped: this user may not mount a file system");
            return None;
        }
        Some(SmallDisk(folder))
    }

    fn grow(&self) {
        let mut command = Command::new("mount");
        let status = command.args(["-o", "remount,size=8m"]).arg(self.0.path()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn with_a_full_disk_only_creates_fail_until_space_is_freed() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.env("NINETABS_DATABASE", disk.0.path().join("models.sqlite3"));
    let server = Server::spawn(command, folder);
    let name = "x".repeat(16_000);
    let statuses: Vec<u16> = (0..120).map(|_| create(server.app, &name).0).collect();
    assert!(statuses.contains(&201) && statuses.ends_with(&[500]), "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 500].contains(status)), "{statuses:?}");

    assert_eq!(common::get(server.app, "/up").0, 200);
    assert_eq!(common::get(server.app, "/").0, 200);
    drop(common::open_stream(server.app));
    disk.grow();
    assert_eq!(create(server.app, "space is available again").0, 201);
    let kept = statuses.iter().filter(|status| **status == 201).count();
    let database = rusqlite::Connection::open(disk.0.path().join("models.sqlite3")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM models", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, kept as i64 + 1, "every answer of 201 is in the table");
}

#[test]
fn a_path_that_begins_with_file_is_a_path_and_not_a_uri() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("x");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let bytes = std::fs::read(&foreign).unwrap();
    let mut command = Server::command(folder.path());
    command.current_dir(folder.path()).env("NINETABS_DATABASE", "file:x");
    let server = Server::spawn(command, folder);
    assert_eq!(create(server.app, "ours").0, 201);
    // A resize opens more connections with the same name.
    assert_eq!(json(server.control, "POST", "/resize?max=12").0, 200);
    let files = common::names(server.folder.path());
    assert!(files.contains(&"file:x-wal".to_owned()), "{files:?}");
    assert!(!files.iter().any(|name| name.starts_with("x-")), "{files:?}");
    assert_eq!(
        std::fs::read(server.folder.path().join("x")).unwrap(),
        bytes,
        "the foreign database was changed"
    );
}
