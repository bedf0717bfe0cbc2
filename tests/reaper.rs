//! The stream reaper against everything that holds a thread: more tabs than threads, clients that stay connected but
//! do not read, and a wait for a database connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{
    self, STREAM, assert_gapless, create_large_models, ids_there, open_tab, received, timeline, wait_for_id,
};
use crate::common::stopped::Stopped;
use crate::common::{FRONTS, PATIENCE, Server, get, json, open_stream, program, read_until, send, wait_for};
use ninetabs::lab::zombies::Zombie;
use ninetabs_server::timeline::{Moment, What};
use serde_json::Value;

on_each_engine! {
    twelve_tabs_on_eight_threads_take_turns_and_miss_no_model,
    the_reaper_ends_a_wait_for_a_database_connection,
}

/// By how many seconds a slow machine may exceed a promised age.
const SCHEDULING_DELAY: f64 = 10.0;
/// A write counts as blocked if nothing is sent and no pool thread runs for this long.
const STILL: Duration = Duration::from_millis(1500);
/// A number of 16 KiB models that is too large for any pair of send and receive buffers.
const LARGE_MODELS: usize = 400;

/// Runs twelve tabs on eight threads until each has had this many turns, with a maximum age in seconds.
fn twelve_tabs_take_turns(engine: EngineKind, max_age: f64, turns: u64, patience: Duration) {
    let server = engine.server_with(&format!(
        "--max-stream-age {max_age} --reap-every 100ms --retry 100ms \
         --produce-every 20ms --update-rate 50ms --keep-models 100000 --db-pool 8"
    ));
    let tabs: Vec<_> = (1..=12).map(|n| open_tab(&server, &format!("tab {n}"), "0")).collect();
    let deadline = Instant::now() + patience;
    let mut oldest: f64 = 0.0;
    while tabs.iter().any(|tab| tab.progress().opened < turns) {
        assert!(Instant::now() < deadline, "not every tab had {turns} turns within {patience:?}");
        let stats = server.stats();
        oldest = oldest.max(stats["streams"]["oldest_age_s"].as_f64().unwrap_or(0.0));
        assert!(oldest <= max_age + 0.1 + SCHEDULING_DELAY, "{stats}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(oldest > 0.0);
    let newest = *ids_there(&server).last().unwrap();
    for (n, tab) in (1..).zip(&tabs) {
        wait_for_id(&server, tab, newest);
        let progress = tab.progress();
        assert!(progress.connections >= turns, "tab {n}: {progress:?}");
        let received = received(tab);
        assert_gapless(&received, 1, &format!("tab {n}"));
        assert!(received.len() as i64 >= newest);
    }
    eprintln!(
        "twelve tabs, {turns} turns each: the oldest stream was {oldest:.2} s old (maximum: {max_age} s)"
    );
}

fn twelve_tabs_on_eight_threads_take_turns_and_miss_no_model(engine: EngineKind) {
    // If the variable is set, the same code runs for a minute, with turns of 5 s.
    match std::env::var_os("NINETABS_TEST_A_MINUTE") {
        Some(_) => twelve_tabs_take_turns(engine, 5.0, 6, 8 * PATIENCE),
        None => twelve_tabs_take_turns(engine, 1.0, engine.times(5, 3) as u64, 2 * PATIENCE),
    }
}

/// The ages [ms] at which at least `count` streams were interrupted. Eight streams are open at a time.
fn ages_at_the_end(jitter: &str, count: usize) -> Vec<u64> {
    let server = Server::start_with(&format!(
        "--max-stream-age 1s --max-stream-age-jitter {jitter} --reap-every 10ms --update-rate 3600 --retry 10ms"
    ));
    let _tabs: Vec<_> = (1..=8).map(|n| open_tab(&server, &format!("tab {n}"), "")).collect();
    wait_for("the ends of the streams", || {
        let ages: Vec<u64> = timeline(&server)
            .into_iter()
            .filter_map(
                |moment| if let What::Reaped { age_ms, .. } = moment.what { Some(age_ms) } else { None },
            )
            .collect();
        (ages.len() >= count).then_some(ages)
    })
}

#[test]
fn a_jitter_spreads_the_ages_and_never_lengthens_them() {
    let exact = ages_at_the_end("0%", 16);
    assert!(exact.iter().all(|age| *age >= 1000), "{exact:?}");

    let spread = ages_at_the_end("50%", 24);
    assert!(spread.iter().all(|age| *age >= 500), "{spread:?}");
    let (min, max) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
    assert!(max - min >= 200, "{spread:?}");
    assert!(*min < 1000, "{spread:?}");
}

/// Starts a server without a maximum age, and opens eight clients that hold its eight threads and read nothing more.
fn held_by<R>(front: &str, flags: &str, open: impl Fn(&str) -> R) -> (Server, Vec<R>) {
    let server =
        Server::start_with(&format!("--front {front} --update-rate 50ms --reap-every 100ms {flags}"));
    let readers = (0..8)
        .map(|n| {
            let reader = open(&server.url(STREAM));
            server.wait_for_stats("held thread", |stats| stats["pool_capacity"] == 7 - n);
            reader
        })
        .collect();
    (server, readers)
}

fn set_max_stream_age(server: &Server, secs: &str) {
    let (status, answer) = json(server.control, "POST", &format!("/max-stream-age?secs={secs}"));
    assert_eq!(status, 200, "{answer}");
}

/// Waits until all threads are idle again, and checks that a page and a stream are answered.
fn wait_until_free(server: &Server) -> Value {
    let stats = server.wait_for_stats("idle pool", |stats| stats["pool_capacity"] == 8);
    assert_eq!(get(server.app, "/up").0, 200);
    open_stream(server.app);
    stats
}

#[test]
fn only_the_maximum_age_ends_zombies_that_never_fill_a_buffer() {
    for front in FRONTS {
        let (server, zombies) = held_by(front, "", |url| Zombie::open(url).unwrap());
        // The writes succeed, so nothing else would ever end these streams.
        let writes = timeline(&server).len();
        wait_for("more writes", || (timeline(&server).len() > writes + 80).then_some(()));
        assert_eq!(server.stats()["streams"]["disconnected"], 0);

        set_max_stream_age(&server, "1");
        let stats = wait_until_free(&server);
        assert!(stats["streams"]["reaped"].as_u64() >= Some(8), "{front}: {stats}");
        assert_eq!(stats["streams"]["disconnected"], 0, "{front}");
        drop(zombies);
    }
}

/// Creates large models while eight clients do not read, so that the writes of their streams block. Then sets the
/// maximum age to one second. This tests the tiny-http front, on which a blocked write must end before its stream can
/// end. `front_streams.rs` tests the front that cuts blocked writes off.
fn held_by_blocked_writes<R>(clients: &str, open: impl Fn(&str) -> R) {
    let (server, readers) = held_by("tiny-http", "--write-timeout 8s", open);
    create_large_models(&server, LARGE_MODELS);
    wait_for_blocked_writes(&server, 8);

    set_max_stream_age(&server, "1");
    wait_until_free(&server);
    assert_eq!(connections(&server, |what| matches!(what, What::Blocked { .. })), 8);
    let (reaped, longest) = slowest_end(&server);
    eprintln!(
        "{clients}: {reaped} streams reaped; the slowest ended {longest:.2} s later, after a blocked write"
    );
    assert!(longest <= 8.0 + SCHEDULING_DELAY, "{longest} s");
    drop(readers);
}

/// Waits until `count` connections have been sent large writes, and then nothing more for a while. Connections whose
/// write times out during the wait count as well.
fn wait_for_blocked_writes(server: &Server, count: usize) {
    let is_large = |what: &What| matches!(what, What::Wrote { bytes } if *bytes > 60_000);
    wait_for("large writes", || (connections(server, is_large) == count).then_some(()));
    let (mut last, mut since) = (Vec::new(), Instant::now());
    wait_for("blocked writes", || {
        let threads = json(server.control, "GET", "/threads").1;
        let bytes: Vec<_> =
            threads.as_array().unwrap().iter().filter_map(|it| it["bytes"].as_u64()).collect();
        // On a busy machine, the next event with large models takes seconds.
        if bytes != last || is_at_work(server) {
            (last, since) = (bytes, Instant::now());
        }
        (since.elapsed() > STILL).then_some(())
    });
}

/// Whether a pool thread runs or is ready to run.
fn is_at_work(server: &Server) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id()));
    tasks.into_iter().flatten().flatten().any(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.contains("(puma srv tp") && stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('R'))
    })
}

/// How many connections have a moment of this kind in the record.
fn connections(server: &Server, wanted: impl Fn(&What) -> bool) -> usize {
    let its = |moment: Moment| moment.subject.filter(|_| wanted(&moment.what)).map(|it| it.connection);
    timeline(server).into_iter().filter_map(its).collect::<BTreeSet<_>>().len()
}

/// How many streams were reaped, and the maximum time from the reaping to the end of the stream [s].
fn slowest_end(server: &Server) -> (usize, f64) {
    let (mut reaped_at, mut longest) = (BTreeMap::new(), 0.0_f64);
    for moment in timeline(server) {
        match (moment.subject, &moment.what) {
            (Some(subject), What::Reaped { .. }) => _ = reaped_at.insert(subject.request, moment.at_us),
            (Some(subject), What::Finished) => {
                let since = reaped_at.get(&subject.request).map(|at_us| moment.at_us - at_us);
                longest = longest.max(since.unwrap_or(0) as f64 / 1e6);
            }
            _ => {}
        }
    }
    (reaped_at.len(), longest)
}

#[test]
fn readers_stopped_by_sigstop_free_their_threads() {
    if program("curl").is_some() {
        held_by_blocked_writes("stopped readers", Stopped::open);
    }
}

#[test]
fn zombies_with_full_buffers_free_their_threads() {
    held_by_blocked_writes("zombies", |url| Zombie::open(url).unwrap());
}

/// Without a maximum age, a blocked write ends at the write timeout, with EAGAIN.
#[test]
fn a_blocked_write_ends_at_its_timeout() {
    for front in FRONTS {
        let (server, zombies) = held_by(front, "--write-timeout 1s", |url| Zombie::open(url).unwrap());
        create_large_models(&server, LARGE_MODELS);
        let stats = wait_until_free(&server);
        let ended = (&stats["streams"]["reaped"], &stats["streams"]["disconnected"]);
        assert_eq!(ended, (&0.into(), &8.into()), "{front}");
        for zombie in zombies {
            let (_, errno) = models::wait_for_disconnect(&server, zombie.local_port());
            assert_eq!(errno, "EAGAIN", "{front}");
        }
    }
}

fn the_reaper_ends_a_wait_for_a_database_connection(engine: EngineKind) {
    let server = engine.server_with(
        "--front tiny-http --db-pool 1 --db-checkout-timeout 60s --reap-every 100ms --write-timeout 120s --retry 1500ms",
    );
    // An action holds the only database connection, and cannot return because its write is blocked.
    create_large_models(&server, LARGE_MODELS);
    let holder = Zombie::open(&server.url(&format!("{STREAM}?last_event_id=0"))).unwrap();
    wait_for_blocked_writes(&server, 1);
    assert_eq!(server.stats()["database"]["busy"], 1);

    set_max_stream_age(&server, "1");
    let request = format!("GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut waiting = send(server.app, request.as_bytes());
    let answer = read_until(&mut waiting, "0\r\n\r\n");
    assert!(answer.contains("\r\n\r\n") && answer.contains("retry: 1500\n"), "{answer:?}");
    assert!(!answer.contains("data:"), "{answer:?}");
    let stats = server.wait_for_stats("end of the wait", |stats| stats["database"]["waiting"] == 0);
    assert_eq!((&stats["database"]["busy"], &stats["database"]["checkout_timeouts"]), (&1.into(), &0.into()));
    assert!(server.log().contains("ended while waiting for a database connection"));

    drop(holder);
    server.wait_for_stats("idle pool", |stats| stats["pool_capacity"] == 8 && stats["database"]["busy"] == 0);
}
