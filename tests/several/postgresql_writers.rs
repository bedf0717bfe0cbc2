//! Many writers on one PostgreSQL, and tabs on three servers: each tab gets each model once and in order, and a reader
//! by `id > last` of a serial column does not.
//!
//! `NINETABS_WRITTEN_ROWS` sets how many rows are written at least (default: 600). The connections of tabs are cut once
//! per 30 of these rows, so 6000 rows are 200 cuts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use ninetabs::lab::tab::{Happens, Tab};

use crate::common::batch::batch;
use crate::common::models::{self, STREAM, expect_ids, open_tab_at};
use crate::common::postgres::{TestDatabase, engine};
use crate::common::{Server, create, wait_for};

batch! {
    crate::several::BATCH:
    nine_tabs_on_three_servers_get_each_row_of_sixteen_writers_and_a_naive_reader_does_not,
    a_tab_whose_connection_is_cut_continues_on_another_server_and_misses_no_model,
}

const PUSH: &str = "/fixes/push/stream";
const SERVERS: usize = 3;
const TABS_PER_SERVER: usize = 3;
const WRITERS: usize = 16;
/// Rows of one statement that inserts several.
const SEVERAL: usize = 3;
/// Maximum total of the pauses in a transaction. In one of fifty, they are ten times as long.
const LONGEST_PAUSE: f64 = 0.02;
const ROWS_PER_CUT: usize = 30;

fn rows_to_write() -> usize {
    std::env::var("NINETABS_WRITTEN_ROWS").ok().map_or(600, |text| text.parse().unwrap())
}

fn servers(database: &TestDatabase<'_>) -> Vec<Server> {
    // A stream whose connection was cut holds its thread until its second write.
    let flags = "--db-pool 3 --db-lease query --db-query-timeout 60 --update-rate 50ms --keep-models 1000000";
    let flags: Vec<_> = flags.split(' ').collect();
    (0..SERVERS).map(|_| database.server(&flags)).collect()
}

/// A transaction that inserts the same number of rows into `naive` and into `models`. Returns that number as well.
fn transaction(dice: &mut Rng) -> (String, usize) {
    let given = dice.i64(1..);
    let (models, rows) = match dice.u8(0..6) {
        0 => (format!("INSERT INTO models (id, name) VALUES ({given}, 'given');"), 1),
        1 => (
            format!("INSERT INTO models (name) SELECT 'several' FROM generate_series(1, {SEVERAL});"),
            SEVERAL,
        ),
        2 => ("COPY models (name) FROM STDIN;\ncopied\ncopied\n\\.".to_owned(), 2),
        3 => (format!("COPY models (id, name) FROM STDIN;\n{given}\tcopied\n7\tcopied\n\\."), 2),
        _ => ("INSERT INTO models (name) VALUES ('one');".to_owned(), 1),
    };
    let pause = LONGEST_PAUSE * dice.f64() * if dice.u8(0..50) == 0 { 10.0 } else { 1.0 };
    // The lock is held during the second part.
    let before = pause * dice.f64();
    let begin = format!(
        "BEGIN; INSERT INTO naive SELECT FROM generate_series(1, {rows}); SELECT pg_sleep({before:.4});"
    );
    (format!("{begin}\n{models}\nSELECT pg_sleep({:.4});", pause - before), rows)
}

/// The transactions of a writer. They commit at least this many rows, and one of twenty is rolled back. Returns how many
/// rows are committed as well.
fn script(writer: u64, at_least: usize) -> (String, usize) {
    let mut dice = Rng::with_seed(writer);
    let (mut script, mut committed) = (String::new(), 0);
    while committed < at_least {
        let (transaction, rows) = transaction(&mut dice);
        let commits = dice.u8(0..20) > 0;
        script += &format!("{transaction}\n{};\n", if commits { "COMMIT" } else { "ROLLBACK" });
        committed += if commits { rows } else { 0 };
    }
    (script, committed)
}

fn nine_tabs_on_three_servers_get_each_row_of_sixteen_writers_and_a_naive_reader_does_not() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let servers = servers(&database);
    let tabs: Vec<Tab> = (0..SERVERS * TABS_PER_SERVER)
        .map(|n| open_tab_at(&servers[n % SERVERS], PUSH, &format!("tab {n}"), "0"))
        .collect();
    let sql = database.sql();
    sql.execute("CREATE TABLE naive (id bigserial PRIMARY KEY)");
    let is_done = AtomicBool::new(false);
    let (naive, committed) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (sql, mut read) = (database.sql(), Vec::new());
            loop {
                // One more read after the last commit.
                let was_done = is_done.load(Ordering::SeqCst);
                let last = read.last().copied().unwrap_or(0);
                read.extend(sql.numbers(&format!("SELECT id FROM naive WHERE id > {last} ORDER BY id")));
                if was_done {
                    return read;
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (script, committed) = script(writer as u64, rows_to_write().div_ceil(WRITERS));
                let database = &database;
                scope.spawn(move || {
                    database.psql_script(&script);
                    committed
                })
            })
            .collect();
        let committed: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // The reader must end even if a writer has failed.
        is_done.store(true, Ordering::SeqCst);
        let naive = reader.join().unwrap();
        (naive, committed.into_iter().map(|rows| rows.unwrap()).sum::<usize>())
    });
    let wanted = sql.numbers("SELECT id FROM models ORDER BY id");
    assert_eq!((wanted.len() as i64, committed), (sql.ask("SELECT count(*) FROM naive"), wanted.len()));
    for (n, tab) in tabs.iter().enumerate() {
        expect_ids(tab, &wanted, &format!("tab {n}"));
    }
    let lost = committed - naive.len();
    eprintln!(
        "{WRITERS} writers committed {committed} rows: each of {} tabs got each row once and in order; \
         a reader by `id > last` lost {lost}",
        tabs.len()
    );
    assert!(lost > 0, "the naive reader has all {committed} rows");
}

/// Follows the models over at least this many connections, each of which is cut at a random moment, and each to another
/// server than the previous one. Returns the number of cuts, and the ids that have arrived, which are as many at least.
fn change_servers(servers: &[Server], first: usize, path: &str, at_least: usize) -> (usize, Vec<i64>) {
    let (mut cuts, mut at, mut all): (usize, usize, Vec<i64>) = (0, first, Vec::new());
    while cuts < at_least || all.len() < at_least {
        let tab = open_tab_at(&servers[at], path, "tab", &all.last().copied().unwrap_or(0).to_string());
        thread::sleep(Duration::from_millis(fastrand::u64(0..100)));
        wait_for("a connection to cut", || tab.cut().then_some(()));
        wait_for("the end of the connection", || {
            tab.happenings().try_iter().find_map(|it| match it.what {
                Happens::Event(event) => {
                    all.extend(models::ids(&event.data));
                    None
                }
                Happens::Ended { .. } => Some(()),
                _ => None,
            })
        });
        tab.close();
        cuts += 1;
        at = (at + fastrand::usize(1..SERVERS)) % SERVERS;
    }
    (cuts, all)
}

fn a_tab_whose_connection_is_cut_continues_on_another_server_and_misses_no_model() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let servers = servers(&database);
    let paths = [PUSH, STREAM, PUSH, PUSH];
    let cuts_per_tab = (rows_to_write() / ROWS_PER_CUT).div_ceil(paths.len());
    let is_over = AtomicBool::new(false);
    let received: Vec<(usize, Vec<i64>)> = thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(create(server.app, "ours").0, 201);
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
        // Another program leaves gaps between the ids.
        scope.spawn(|| {
            let sql = database.sql();
            while !is_over.load(Ordering::Relaxed) {
                sql.execute("BEGIN; INSERT INTO models (name) VALUES ('undone'); ROLLBACK");
                sql.execute("INSERT INTO models (name) SELECT 'theirs' FROM generate_series(1, 3)");
                thread::sleep(Duration::from_millis(30));
            }
        });
        let servers = &servers;
        let tabs = paths
            .iter()
            .enumerate()
            .map(|(n, path)| scope.spawn(move || change_servers(servers, n % SERVERS, path, cuts_per_tab)));
        let received = tabs.collect::<Vec<_>>().into_iter().map(|tab| tab.join()).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        received.into_iter().map(|tab| tab.unwrap()).collect()
    });
    let wanted = database.sql().numbers("SELECT id FROM models ORDER BY id");
    for (n, (path, (_, ids))) in paths.iter().zip(&received).enumerate() {
        assert_eq!(
            Some(&ids[..]),
            wanted.get(..ids.len()),
            "tab {n} on {path}, while its connections were cut"
        );
        let last = ids.last().copied().unwrap_or(0).to_string();
        let tab = open_tab_at(&servers[n % SERVERS], path, "tab", &last);
        expect_ids(&tab, &wanted[ids.len()..], &format!("tab {n} on {path}"));
    }
    let cuts: usize = received.iter().map(|(cuts, _)| cuts).sum();
    eprintln!(
        "{cuts} cuts, each followed by another server: {} tabs got each of {} models",
        paths.len(),
        wanted.len()
    );
}
