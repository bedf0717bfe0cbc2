//! A standby of a private PostgreSQL, its promotion, and copies of the files of a database.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::postgres::{Engine, TestDatabase, as_user};
use crate::common::wait_for;

/// The settings of both. The primary keeps enough WAL for a standby that was away for a while.
const REPLICATED: [&str; 4] =
    ["wal_level=replica", "max_wal_senders=4", "wal_keep_size=64MB", "wal_retrieve_retry_interval=100ms"];

/// Runs a command to its end.
fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Engine {
    /// Starts an engine that standbys can follow.
    pub fn start_primary() -> Option<Engine> {
        Engine::start_with(&REPLICATED)
    }

    /// Starts a standby of this engine, and waits until it follows.
    pub fn start_standby(&self) -> Engine {
        let standby = Engine::in_new_folder(self.programs.clone(), &REPLICATED);
        standby.follow(self);
        standby
    }

    /// Replaces the files of this engine, which must not be running, with a backup of the other one. Starts it as a
    /// standby of that, and waits until it follows.
    pub fn follow(&self, primary: &Engine) {
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        let mut backup = as_user(&self.programs.join("pg_basebackup"));
        backup.args(["--username=postgres", "--checkpoint=fast", "--no-sync", "--no-manifest"]);
        backup.arg("--write-recovery-conf").arg("--host").arg(&primary.folder).arg("--pgdata").arg(&data);
        run(backup);
        self.launch();
        primary.wait_for_standbys(1);
    }

    /// Waits until this number of standbys are connected and have received all WAL so far.
    pub fn wait_for_standbys(&self, wanted: i64) {
        let admin = self.admin("postgres");
        wait_for("the standby", || {
            let senders = "SELECT count(*) FROM pg_stat_replication";
            let up_to_date = "state = 'streaming' AND replay_lsn = pg_current_wal_lsn()";
            let all = admin.ask(senders);
            (all == wanted && admin.ask(&format!("{senders} WHERE {up_to_date}")) == wanted).then_some(())
        });
    }

    /// Promotes this standby, and waits until it accepts writes.
    pub fn promote(&self) {
        let promoted = self.admin("postgres").rows("SELECT pg_promote()");
        assert!(promoted[0].get::<_, bool>(0));
    }

    /// Changes a setting of the running engine, for existing connections as well.
    pub fn set(&self, name: &str, value: &str) {
        let admin = self.admin("postgres");
        admin.execute(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        admin.execute("SELECT pg_reload_conf()");
        wait_for("the setting", || {
            let row =
                &self.admin("postgres").rows(&format!("SELECT current_setting('{name}') = '{value}'"))[0];
            row.get::<_, bool>(0).then_some(())
        });
    }

    /// Copies the files of this engine, which must not be running. Returns the folder of the copy.
    pub fn copy_files(&self) -> PathBuf {
        let copy = self.folder.join("copy");
        let mut cp = Command::new("cp");
        cp.arg("-a").args([&self.data(), &copy]);
        run(cp);
        copy
    }

    /// Replaces the files of this engine, which must not be running, with the copy.
    pub fn restore_files(&self, copy: PathBuf) {
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(copy, self.data()).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl TestDatabase<'_> {
    /// The same database on a standby of its engine.
    pub fn on<'a>(&self, standby: &'a Engine) -> TestDatabase<'a> {
        TestDatabase { engine: standby, name: self.name.clone() }
    }

    /// The URL of whichever of the two engines accepts writes. This one is tried first.
    pub fn url_with(&self, standby: &Engine) -> String {
        let (hosts, name) = (format!("{},{}", self.engine.host(), standby.host()), &self.name);
        format!("postgresql://ninetabs@{hosts}/{name}?target_session_attrs=read-write")
    }
}
