//! Act 9: rows that become visible out of order. Writers draw ids and commit later, in another order. Each tab gets
//! each model once and in order, and a reader that asks for ids greater than its last one loses rows. Readers that ask
//! in other ways read the same rows, for comparison.

mod readers;

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::cluster::postgres::PostgresError;
use super::super::cluster::psql::{PsqlScript, PsqlSession};
use super::super::cluster::run::Cluster;
use super::super::cluster::{ClusterDatabase, ClusterError, ClusterPlan};
use super::super::interrupt::Interrupt;
use super::{Played, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, Plan, Theater};
use readers::{METHODS, MethodReader, ReadMethod, TABLES, UNSETTLED, table};

const SERVERS: usize = 3;
const WRITERS: usize = 16;
/// The transactions of each writer, and how many of all are rolled back: one in this many.
const TURNS: usize = 50;
const ROLLED_BACK: usize = 20;
/// The rows of a COPY.
const COPIED: usize = 3;
/// The ids that the writers give begin here. The table's own numbers do not get this far.
const GIVEN_FROM: usize = 1_000_000_000;
/// A transaction waits for up to one in this many of the interval between two updates, and a slow one for ten times as
/// long: 20 ms and 200 ms.
const WAITS: u32 = 100;
/// One in this many transactions is slow.
const SLOW: u8 = 50;
/// How long the reader waits between two queries.
const READ_EVERY: Duration = Duration::from_millis(2);
/// How long the readers may need after the last commit. A transaction of another program delays some of them.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn title(plan: &Plan) -> String {
    format!("{WRITERS} writers, {}, and a reader by greater ids", count(plan.tabs, "tab"))
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("{WRITERS} writers, {}, and a reader by `id > last`", spelled(plan.tabs, "tab"))
}

pub(super) fn expects(plan: &Plan) -> String {
    let get = if plan.tabs == 1 { "gets" } else { "get" };
    format!(
        "{WRITERS} writers commit {} rows, with delays, ids of their own, COPY and rollbacks. {} on {SERVERS} servers \
         {get} each row of `models` once and in order. The same rows are in tables whose ids come from a sequence. A \
         reader that asks for `id > last` there loses rows.",
        committed_rows(),
        count(plan.tabs, "tab"),
    )
}

/// How a transaction writes its rows.
#[derive(Debug, Clone, Copy)]
enum WriteKind {
    Insert,
    InsertWithId,
    CopyWithIds,
}

impl WriteKind {
    fn of(turn: usize) -> WriteKind {
        match turn % 4 {
            0 => WriteKind::InsertWithId,
            1 => WriteKind::CopyWithIds,
            _ => WriteKind::Insert,
        }
    }

    fn rows(self) -> usize {
        match self {
            WriteKind::Insert | WriteKind::InsertWithId => 1,
            WriteKind::CopyWithIds => COPIED,
        }
    }

    /// The statements before and after the delay. The first draw the ids from the sequence of `naive`. The statements
    /// that take a lock are last, so that no lock delays the drawing. `models` comes before `locked`, whose lock would
    /// order its numbers as well. Ids for `models` are given from this one on.
    fn statements(self, first_id: usize) -> [String; 2] {
        match self {
            WriteKind::Insert => [
                "INSERT INTO naive (name) VALUES ('late');".to_owned(),
                "INSERT INTO models (name) VALUES ('late');\nINSERT INTO locked (name) VALUES ('late');"
                    .to_owned(),
            ],
            // As an application does whose library draws ids in advance.
            WriteKind::InsertWithId => [
                "SELECT nextval('naive_id_seq') AS naive, nextval('locked_id_seq') AS locked \\gset"
                    .to_owned(),
                format!(
                    "INSERT INTO naive (id, name) VALUES (:naive, 'late');\n\
                     INSERT INTO models (id, name) VALUES ({first_id}, 'late');\n\
                     INSERT INTO locked (id, name) VALUES (:locked, 'late');"
                ),
            ],
            WriteKind::CopyWithIds => {
                let with_ids: String = (first_id..).take(COPIED).map(|id| format!("{id}\tlate\n")).collect();
                let copy =
                    |table: &str| format!("COPY {table} (name) FROM STDIN;\n{}\\.", "late\n".repeat(COPIED));
                [
                    copy("naive"),
                    format!("COPY models (id, name) FROM STDIN;\n{with_ids}\\.\n{}", copy("locked")),
                ]
            }
        }
    }
}

fn is_rolled_back(writer: usize, turn: usize) -> bool {
    (writer + turn).is_multiple_of(ROLLED_BACK)
}

/// The rows that all writers commit to each table.
fn committed_rows() -> usize {
    let turns = (0..WRITERS).flat_map(|writer| (0..TURNS).map(move |turn| (writer, turn)));
    let committed = turns.filter(|(writer, turn)| !is_rolled_back(*writer, *turn));
    committed.map(|(_, turn)| WriteKind::of(turn).rows()).sum()
}

/// All transactions of a writer. Each draws its ids from the sequences, waits for up to `longest`, or ten times as long,
/// and then writes to the tables with a lock.
fn script(writer: usize, longest: Duration) -> String {
    let mut dice = Rng::with_seed(writer as u64);
    let mut script = String::new();
    for turn in 0..TURNS {
        let slowness = if dice.u8(..SLOW) == 0 { 10.0 } else { 1.0 };
        let before = longest.as_secs_f64() * slowness * dice.f64();
        let after = longest.as_secs_f64() / 20.0 * dice.f64();
        let [drawing, writing] =
            WriteKind::of(turn).statements(GIVEN_FROM + (writer * TURNS + turn) * COPIED);
        let end = if is_rolled_back(writer, turn) { "ROLLBACK" } else { "COMMIT" };
        script.push_str(&format!(
            "BEGIN;\n{drawing}\nSELECT pg_sleep({before:.6});\n{writing}\nSELECT pg_sleep({after:.6});\n{end};\n"
        ));
    }
    script
}

/// The result of the writers.
struct WrittenRows {
    /// The ids in `models`, ascending.
    models: Vec<i64>,
    /// The rows in each of the other tables.
    others: usize,
    readers: Vec<MethodReader>,
}

impl WrittenRows {
    /// How many rows a reader lost.
    fn lost(&self, method: ReadMethod) -> usize {
        let reader = self.readers.iter().find(|reader| reader.method == method);
        reader.map_or(0, |reader| self.others.saturating_sub(reader.received))
    }

    fn percent(&self, lost: usize) -> usize {
        (lost * 100).checked_div(self.others).unwrap_or_default()
    }
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let (plan, interrupt) = (theater.plan, theater.interrupt);
    let cluster_plan = ClusterPlan {
        program: plan.program.clone(),
        servers: SERVERS,
        tabs: plan.tabs,
        database: ClusterDatabase::PrivatePostgres,
        server_flags: ["--produce-every", "off"].map(str::to_owned).to_vec(),
        duration: None,
    };
    let mut cluster = Cluster::empty(&cluster_plan, interrupt);
    cluster.start(&mut |_| Ok(()))?;
    let first = cluster.newest()?;
    cluster.open_tabs(first, &mut |_| Ok(()))?;
    let written = write(&mut cluster, first, plan.pace.update_rate / WAITS, interrupt)?;
    let played = judged(&mut cluster, &written, plan)?;
    theater.narrator.rows(&table(&written.readers, written.others));
    Ok(played)
}

/// Runs the writers and the readers. The readers continue until the last commit is visible to all of them.
fn write(
    cluster: &mut Cluster<'_>,
    first: i64,
    longest: Duration,
    interrupt: &Interrupt,
) -> Result<WrittenRows, ClusterError> {
    let postgres = cluster.postgres().ok_or(PostgresError::NotInstalled)?;
    postgres.execute(TABLES, interrupt)?;
    let mut table = PsqlSession::start(postgres)?;
    let mut session = PsqlSession::start(postgres)?;
    let mut readers: Vec<_> = METHODS.into_iter().map(|method| MethodReader::after(method, first)).collect();
    let mut read = || readers.iter_mut().try_for_each(|reader| reader.read(&mut session, interrupt));
    read()?;
    let writers = (0..WRITERS).map(|writer| PsqlScript::start(postgres, &script(writer, longest)));
    let mut writers = writers.collect::<Result<Vec<_>, _>>()?;
    let mut are_done = false;
    while !are_done {
        are_done = true;
        for writer in &mut writers {
            are_done &= writer.is_done()?;
        }
        read()?;
        // A tab whose events are not taken stops reading.
        cluster.take_events();
        interrupt.sleep(READ_EVERY)?;
    }
    let models = format!("SELECT id FROM models WHERE id > {first} ORDER BY id");
    let models = table.numbers(&models, interrupt)?;
    let others = table.numbers("SELECT id FROM naive", interrupt)?.len();
    let deadline = Instant::now() + SETTLE_WITHIN;
    while table.numbers(UNSETTLED, interrupt)? != [0] && Instant::now() < deadline {
        interrupt.sleep(READ_EVERY)?;
    }
    read()?;
    Ok(WrittenRows { models, others, readers })
}

fn judged(cluster: &mut Cluster<'_>, written: &WrittenRows, plan: &Plan) -> Result<Played, ClusterError> {
    let mut claims = Claims::default();
    let rows = written.models.len();
    claims
        .equal("rows that the writers committed to each table", committed_rows(), rows)
        .says(format!("{WRITERS} writers committed {} to each table", count(rows, "row")));
    let given = written.models.iter().filter(|id| **id >= GIVEN_FROM as i64).count();
    claims
        .equal("rows that kept the id that the writer gave", 0, given)
        .says(format!("{} kept the id that the writer gave", count(given, "row")));

    let last = written.models.last().copied().unwrap_or_default();
    cluster.wait_for_tabs(last)?;
    let unseen = cluster.unseen(&written.models);
    let complete = cluster.complete_tabs(last);
    claims
        .equal("tabs that received each row once and in order", plan.tabs, complete)
        .says(format!("{complete} of {} received each row once and in order", count(plan.tabs, "tab")));
    claims
        .equal("rows that no tab received", 0, unseen)
        .says(format!("{} reached no tab", count(unseen, "row")));

    // A method that loses rows only sometimes makes no claim.
    let lost = written.lost(ReadMethod::Greater);
    let percent = written.percent(lost);
    claims
        .push("rows that the reader by greater ids lost", "1 or more", lost.to_string(), lost > 0)
        .says(format!("the reader by `id > last` lost {} ({percent}%)", count(lost, "row")));
    for (method, by) in [(ReadMethod::Pair, "transaction and id"), (ReadMethod::Number, "number")] {
        let lost = written.lost(method);
        claims
            .equal(format!("rows that the reader by {by} lost"), 0, lost)
            .says(format!("the reader by {by} lost {}", count(lost, "row")));
    }
    let why = "A sequence assigns an id at the insert, and the row is visible from the commit on. A reader that has seen \
               8 never asks for 7, which is committed later. In `models`, a trigger assigns the number under a lock that \
               the transaction holds until its row is visible, so all smaller numbers are visible before, or never."
        .to_owned();
    let conclusion = format!(
        "{complete} of {} received all {}; a reader by `id > last` lost {percent}% of them",
        count(plan.tabs, "tab"),
        count(rows, "row"),
    );
    Ok(Played { claims, why, conclusion, main: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_rows_are_those_of_the_scripts() {
        let rows = |script: &str| {
            let transactions = script.split("BEGIN;\n").filter(|it| it.ends_with("COMMIT;\n"));
            transactions
                .map(|it| if it.contains("COPY") { it.matches("\tlate\n").count() } else { 1 })
                .sum::<usize>()
        };
        let scripts: Vec<String> =
            (0..WRITERS).map(|writer| script(writer, Duration::from_millis(20))).collect();
        assert_eq!(scripts.iter().map(|script| rows(script)).sum::<usize>(), committed_rows());
        assert!(scripts.iter().all(|script| script.contains("ROLLBACK;\n")));
        // A pipe holds this much, so starting a writer does not wait for it.
        assert!(scripts.iter().all(|script| script.len() < 65_536));
    }
}
