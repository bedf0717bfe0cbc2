//! A probe that a signal ends at a random moment leaves nothing behind.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

use super::app;
use crate::common::batch::batch;
use crate::common::scripted::{Scripted, Slots};
use crate::common::{names, wait_for};

batch! { super::super::BATCH:
    sigint_at_random_moments_leaves_nothing,
    sigterm_at_random_moments_leaves_nothing,
    sigkill_at_random_moments_leaves_nothing,
}

/// Ten moments of a run that takes about 20 s.
fn moments() -> Vec<Duration> {
    let seed = fastrand::u64(..);
    eprintln!("seed: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    (0..10).map(|_| Duration::from_millis(random.u64(0..20_000))).collect()
}

/// Runs the probe once for each of the moments, in an empty folder, ends it with this signal at that moment, and checks
/// what is left. All runs take place at the same time, each against its own server.
fn end_at_each_moment(signal: Signal, check: fn(&Child, std::process::ExitStatus)) {
    std::thread::scope(|scope| {
        let start = |moment| scope.spawn(move || end_after(moment, signal, check));
        let runs: Vec<_> = moments().into_iter().map(start).collect();
        for run in runs {
            if let Err(panic) = run.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn end_after(moment: Duration, signal: Signal, check: fn(&Child, std::process::ExitStatus)) {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            app(client, request)
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["probe", &server.url("/stream"), "--page", &server.url("/page")]);
    command.args(["--tabs", "8", "--patience", "3", "--report", "report.html"]);
    command.current_dir(&folder).env("TMPDIR", folder.path()).env("HOME", folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let group = Pid::from_child(&child);
    std::thread::sleep(moment);
    // If the run has already ended, it has not been waited for yet, so its process id cannot have been reused.
    let _ = kill_process(group, signal);
    let status = wait_for("the end of the probe", || child.try_wait().unwrap());
    let is_complete = status.code() == Some(0);
    if !is_complete {
        check(&child, status);
    }
    assert!(test_kill_process_group(group).is_err(), "a process is left after {moment:?}");
    wait_for("the end of all connections", || (server.record.open() == 0).then_some(()));
    let files = names(folder.path());
    let expected: &[&str] = if is_complete { &["report.html"] } else { &[] };
    assert_eq!(files, expected, "after {moment:?}");
}

/// The status of a run that was interrupted, or killed before it could handle signals.
fn is_interrupted(_: &Child, status: std::process::ExitStatus) {
    let early = [Some(Signal::INT.as_raw()), Some(Signal::TERM.as_raw())];
    assert!(status.code() == Some(130) || early.contains(&status.signal()), "{status}");
}

fn sigint_at_random_moments_leaves_nothing() {
    end_at_each_moment(Signal::INT, is_interrupted);
}

fn sigterm_at_random_moments_leaves_nothing() {
    end_at_each_moment(Signal::TERM, is_interrupted);
}

fn sigkill_at_random_moments_leaves_nothing() {
    end_at_each_moment(Signal::KILL, |_, status| assert_eq!(status.signal(), Some(9), "{status}"));
}
