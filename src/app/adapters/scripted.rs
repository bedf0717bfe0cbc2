//! A database in memory whose answers and notifications follow a test's script.
//!
//! On demand, it does what a real engine cannot be made to do: it answers late or never, fails before or
//! after its work, and repeats or omits notifications of commits. It can also make numbers visible out of
//! order, which an [`Adapter`] must not do.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use super::{Adapter, Change, EngineStats, Failure, Follower, Known, Opened, Session};
use crate::app::batch::{Batch, Filling, Limit};
use crate::app::model::Model;
use crate::app::table::Table;
use crate::timestamp;
use ninetabs_server::threads::StopSignal;

/// When a transaction gets its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// At its commit. Numbers therefore become visible in order.
    AtCommit,
    /// When it begins. A number may therefore become visible after a greater one.
    AtBegin,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptedTurn {
    Answer,
    /// Fails without doing its work.
    Fail,
    /// Does its work and then fails, as if the connection were lost before the answer.
    FailLate,
    /// Does its work, and answers once it is released.
    AnswerLate,
}

/// A call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Before,
    Next(i64),
    Since,
    LastId,
    LastNumber,
    Create,
}

/// The database, which is its own adapter.
#[derive(Clone)]
pub(crate) struct Scripted(Arc<ScriptedShared>);

struct ScriptedShared {
    numbers: Numbers,
    rows: Mutex<Rows>,
    /// The scripts of the sessions, in the order in which they were opened.
    scripts: Mutex<Vec<Arc<Script>>>,
    notices: Mutex<VecDeque<ScriptedNotice>>,
}

/// The outcome of a follower's look.
enum ScriptedNotice {
    Change(Change),
    /// Finds the last id that is committed at the time of the look.
    Look,
    Failure,
}

#[derive(Default)]
struct Rows {
    visible: BTreeMap<i64, Model>,
    last_given: i64,
    /// The last committed number, whether or not its model still exists.
    last_committed: i64,
    /// The numbers of the open transactions, in the order in which they began; 0 if the number is assigned
    /// at commit.
    open: Vec<i64>,
}

impl Rows {
    fn give_number(&mut self) -> i64 {
        self.last_given += 1;
        self.last_given
    }

    fn show(&mut self, id: i64, name: &str) -> Model {
        let model = Model { id, name: name.into(), created_at: UNIX_EPOCH + Duration::from_secs(id as u64) };
        self.visible.insert(id, model.clone());
        self.last_committed = self.last_committed.max(id);
        model
    }

    fn batch<'a>(limit: Limit, models: impl Iterator<Item = &'a Model>) -> Batch {
        let mut batch = Filling::up_to(limit);
        for model in models {
            if batch.is_full() || !batch.add(Some(model.clone()), timestamp::micros(model.created_at)) {
                return batch.partial();
            }
        }
        batch.whole()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn new(numbers: Numbers) -> Scripted {
        Scripted(Arc::new(ScriptedShared {
            numbers,
            rows: Mutex::default(),
            scripts: Mutex::default(),
            notices: Mutex::default(),
        }))
    }

    /// This database, with its first connection.
    pub(crate) fn open(&self) -> Opened {
        let last_id = self.last_committed();
        let adapter = Box::new(self.clone());
        Opened { adapter, session: Box::new(self.session()), table: Table::from_bits(1), last_id }
    }

    fn session(&self) -> ScriptedSession {
        let script = Arc::<Script>::default();
        lock(&self.0.scripts).push(Arc::clone(&script));
        ScriptedSession { database: self.clone(), script }
    }

    /// The script of the session that was opened last.
    pub(crate) fn last_script(&self) -> Arc<Script> {
        Arc::clone(lock(&self.0.scripts).last().unwrap())
    }

    /// Another program begins a transaction that inserts one model.
    pub(crate) fn begin(&self) {
        let mut rows = lock(&self.0.rows);
        let number = if self.0.numbers == Numbers::AtBegin { rows.give_number() } else { 0 };
        rows.open.push(number);
    }

    /// How many transactions are open.
    pub(crate) fn open_transactions(&self) -> usize {
        lock(&self.0.rows).open.len()
    }

    /// Commits an open transaction. The index begins at 0.
    pub(crate) fn commit(&self, transaction: usize) -> i64 {
        let mut rows = lock(&self.0.rows);
        let number = rows.open.remove(transaction);
        let id = if number == 0 { rows.give_number() } else { number };
        rows.show(id, "theirs").id
    }

    /// Rolls an open transaction back. Its number is not used again.
    pub(crate) fn roll_back(&self, transaction: usize) {
        let mut rows = lock(&self.0.rows);
        if rows.open.remove(transaction) == 0 {
            rows.give_number();
        }
    }

    /// Another program inserts and commits.
    pub(crate) fn insert(&self) -> i64 {
        self.begin();
        self.commit(self.open_transactions() - 1)
    }

    /// Another program deletes this many of the oldest models.
    pub(crate) fn delete(&self, models: usize) {
        let mut rows = lock(&self.0.rows);
        for _ in 0..models {
            rows.visible.pop_first();
        }
    }

    /// The ids of all visible models.
    pub(crate) fn ids(&self) -> Vec<i64> {
        lock(&self.0.rows).visible.keys().copied().collect()
    }

    pub(crate) fn last_committed(&self) -> i64 {
        lock(&self.0.rows).last_committed
    }

    /// Sends a notification of a commit, which may be an old one.
    pub(crate) fn notify(&self, id: i64) {
        lock(&self.0.notices).push_back(ScriptedNotice::Change(Change::Committed(id)));
    }

    /// Makes the follower's next look at the table fail.
    pub(crate) fn fail_a_look(&self) {
        lock(&self.0.notices).push_back(ScriptedNotice::Failure);
    }

    /// Makes the follower look at the table without a notification, as a real one occasionally does.
    pub(crate) fn look_at_the_table(&self) {
        lock(&self.0.notices).push_back(ScriptedNotice::Look);
    }

    /// Whether a look would find something.
    pub(crate) fn has_notices(&self) -> bool {
        !lock(&self.0.notices).is_empty()
    }
}

impl Adapter for Scripted {
    fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(self.session()))
    }

    fn follow(&self) -> Result<Box<dyn Follower>, Failure> {
        Ok(Box::new(ScriptedFollower { database: self.clone(), has_looked: false }))
    }

    fn engine(&self) -> EngineStats {
        EngineStats::of("scripted")
    }
}

/// The script of one session, and a record of its calls.
#[derive(Debug, Default)]
pub(crate) struct Script {
    state: Mutex<ScriptState>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct ScriptState {
    calls: Vec<Call>,
    turns: VecDeque<ScriptedTurn>,
    /// Whether all calls after the planned turns are late.
    is_late: bool,
    /// How many late answers have been released and not yet returned.
    released_answers: usize,
    /// Whether late answers are no longer held back.
    is_free: bool,
    /// Whether a late answer waits for its release.
    is_waiting: bool,
}

impl ScriptState {
    fn must_wait(&self) -> bool {
        !self.is_free && self.released_answers == 0
    }
}

impl Script {
    /// Plans the first call that is not planned yet.
    pub(crate) fn plan(&self, turn: ScriptedTurn) {
        let mut state = lock(&self.state);
        state.turns.push_back(turn);
        state.is_free &= turn != ScriptedTurn::AnswerLate;
    }

    /// Makes every call from now on answer late.
    pub(crate) fn be_late(&self) {
        let mut state = lock(&self.state);
        (state.is_late, state.is_free) = (true, false);
    }

    /// Releases this many late answers, waiting ones first.
    pub(crate) fn release(&self, answers: usize) {
        let mut state = lock(&self.state);
        state.released_answers += answers;
        self.released.notify_all();
    }

    /// Drops the plan, and answers every call from now on immediately.
    pub(crate) fn behave(&self) {
        let mut state = lock(&self.state);
        state.turns.clear();
        (state.is_late, state.is_free, state.released_answers) = (false, true, 0);
        self.released.notify_all();
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    fn begin(&self, call: Call) -> ScriptedTurn {
        let mut state = lock(&self.state);
        state.calls.push(call);
        let otherwise = if state.is_late { ScriptedTurn::AnswerLate } else { ScriptedTurn::Answer };
        state.turns.pop_front().unwrap_or(otherwise)
    }

    /// Whether a late answer waits for its release.
    pub(crate) fn is_waiting(&self) -> bool {
        let state = lock(&self.state);
        state.is_waiting && state.must_wait()
    }

    fn await_release(&self) {
        let mut state = lock(&self.state);
        state.is_waiting = true;
        let mut state = self.released.wait_while(state, |state| state.must_wait()).unwrap();
        state.is_waiting = false;
        state.released_answers = state.released_answers.saturating_sub(1);
    }
}

#[derive(Debug)]
struct ScriptedSession {
    database: Scripted,
    script: Arc<Script>,
}

impl ScriptedSession {
    fn call<T>(&self, call: Call, work: impl FnOnce(&mut Rows) -> T) -> Result<T, Failure> {
        let turn = self.script.begin(call);
        let failure = || Failure::Refused("by the script".into());
        if turn == ScriptedTurn::Fail {
            return Err(failure());
        }
        let answer = work(&mut lock(&self.database.0.rows));
        match turn {
            ScriptedTurn::FailLate => return Err(failure()),
            ScriptedTurn::AnswerLate => self.script.await_release(),
            ScriptedTurn::Answer | ScriptedTurn::Fail => {}
        }
        Ok(answer)
    }
}

impl Session for ScriptedSession {
    fn set_timeout(&mut self, _: Duration) -> Result<(), Failure> {
        Ok(())
    }

    fn before(&mut self, id: Option<i64>, limit: Limit) -> Result<Batch, Failure> {
        let end = id.unwrap_or(i64::MAX);
        self.call(Call::Before, |rows| {
            Rows::batch(limit, rows.visible.range(..end).rev().map(|(_, model)| model))
        })
    }

    fn next(&mut self, id: i64, limit: Limit) -> Result<Batch, Failure> {
        self.call(Call::Next(id), |rows| {
            Rows::batch(limit, rows.visible.range(id.saturating_add(1)..).map(|(_, model)| model))
        })
    }

    fn models_since(&mut self, from: (i64, i64), limit: Limit) -> Result<Batch, Failure> {
        // Times are in the order of ids.
        let is_after = |model: &&Model| (timestamp::micros(model.created_at), model.id) > from;
        self.call(Call::Since, |rows| Rows::batch(limit, rows.visible.values().filter(is_after)))
    }

    fn last_id(&mut self) -> Result<i64, Failure> {
        self.call(Call::LastId, |rows| rows.last_committed)
    }

    fn last_number(&mut self) -> Result<i64, Failure> {
        self.call(Call::LastNumber, |rows| rows.last_given)
    }

    fn create(&mut self, name: &str, keep: Option<u64>) -> Result<Model, Failure> {
        self.call(Call::Create, |rows| {
            let id = rows.give_number();
            while keep.is_some_and(|keep| rows.visible.len() as u64 >= keep) {
                rows.visible.pop_first();
            }
            rows.show(id, name)
        })
    }
}

struct ScriptedFollower {
    database: Scripted,
    has_looked: bool,
}

impl Follower for ScriptedFollower {
    fn pause(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn look(&mut self, _: Known, _: &StopSignal) -> Result<Option<Change>, Failure> {
        let shared = &self.database.0;
        let notice = lock(&shared.notices).pop_front();
        let last_committed = || Change::Committed(self.database.last_committed());
        let change = match notice {
            Some(ScriptedNotice::Failure) => return Err(Failure::Refused("by the script".into())),
            Some(ScriptedNotice::Change(change)) => Some(change),
            Some(ScriptedNotice::Look) => Some(last_committed()),
            None => (!self.has_looked).then(last_committed),
        };
        self.has_looked = true;
        Ok(change)
    }
}
