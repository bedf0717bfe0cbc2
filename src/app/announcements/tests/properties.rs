//! Each listener gets each model once, in the order of ids, whatever the database does. Answers are late,
//! calls fail, notifications are late, repeated or omitted, and listeners are slow or cut off.
//!
//! A database must not make a number visible after a greater one. The last test is the control: it shows
//! that the property fails if a database does so.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::super::super::adapters::Follower;
use super::super::super::adapters::scripted::{Script, ScriptedTurn};
use super::super::super::batch::BATCH;
use super::super::super::database::Lease;
use super::super::super::outside_writers;
use super::*;
use ninetabs_server::threads::StopSignal;

/// One step of a script. A number chooses one of the existing transactions, commits or listeners.
#[derive(Debug, Clone)]
enum Step {
    /// A model is created through the pool, which announces it immediately.
    Create(ScriptedTurn),
    /// Another program's transaction.
    Begin,
    Commit(usize),
    RollBack(usize),
    Delete(usize),
    /// A notification of a commit, which may be an old one. Most commits have none.
    Notify(usize),
    /// The follower looks at its notifications, or at the table.
    Look,
    LookAtTheTable,
    LookInVain,
    /// A listener joins, with the position of its page.
    Join(Page),
    /// A listener loses its connection, and reconnects with the last model that it has.
    Cut(usize),
    Take(usize),
    /// A stream on a thread of the pool looks for new models.
    Poll(usize, ScriptedTurn),
    /// Plans the table reader's next call.
    Read(ScriptedTurn),
    Release,
    Refresh,
    /// All questions to the table reader are answered.
    Settle,
    Say,
}

/// The models that a listener has before it joins.
#[derive(Debug, Clone, Copy)]
enum Page {
    Nothing,
    /// All models that this server knows to be committed.
    Known,
    /// All committed models.
    Committed,
}

/// How a listener is connected, and the ids that it got.
enum Client {
    Detached(Listener),
    Pooled { lease: Lease, got: Vec<i64> },
}

struct Member {
    client: Client,
    /// The position of its client's page.
    since: i64,
}

impl Member {
    fn got(&self) -> &[i64] {
        match &self.client {
            Client::Detached(listener) => &listener.got,
            Client::Pooled { got, .. } => got,
        }
    }

    /// The last model that its client has.
    fn position(&self) -> i64 {
        self.got().last().copied().unwrap_or(self.since)
    }
}

struct Run {
    scripted: Scripted,
    database: Arc<Database>,
    /// The scripts of the pool's two sessions.
    pool: [Arc<Script>; 2],
    reader: Arc<Script>,
    follower: Box<dyn Follower>,
    sent: Arc<Sent>,
    feed: Announcements,
    members: Vec<Member>,
}

impl Run {
    fn new(numbers: Numbers, most_bytes: usize) -> Run {
        let scripted = Scripted::new(numbers);
        let opened = scripted.open();
        let first = scripted.last_script();
        let database = Database::open(opened, 2, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let pool = [first, scripted.last_script()];
        let sent = Arc::<Sent>::default();
        let mut feed = reading(&database, Arc::clone(&sent), most_bytes);
        feed.ask_again_after = Duration::ZERO;
        let reader = scripted.last_script();
        let follower = database.follow().unwrap();
        Run { scripted, database, pool, reader, follower, sent, feed, members: Vec::new() }
    }

    /// Plans the next query of the pool, whichever of its sessions runs it.
    fn plan_in_pool(&self, turn: ScriptedTurn) {
        for script in &self.pool {
            script.behave();
            script.plan(turn);
        }
    }

    fn look(&mut self) {
        // If this look fails, the next one finds the same changes.
        let _ = outside_writers::look(&mut *self.follower, &self.database, &|_, _| {}, &StopSignal::never());
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create(turn) => {
                self.plan_in_pool(turn);
                // The model may exist even if its connection was lost.
                let _ = self.database.lease().create("ours", u64::MAX);
            }
            Step::Begin => self.scripted.begin(),
            Step::Commit(n) => {
                if let Some(n) = n.checked_rem(self.scripted.open_transactions()) {
                    self.scripted.commit(n);
                }
            }
            Step::RollBack(n) => {
                if let Some(n) = n.checked_rem(self.scripted.open_transactions()) {
                    self.scripted.roll_back(n);
                }
            }
            Step::Delete(models) => self.scripted.delete(models),
            Step::Notify(n) => {
                let ids = self.scripted.ids();
                if let Some(n) = n.checked_rem(ids.len()) {
                    self.scripted.notify(ids[n]);
                }
            }
            Step::Look => self.look(),
            Step::LookAtTheTable => {
                self.scripted.look_at_the_table();
                self.look();
            }
            Step::LookInVain => {
                self.scripted.fail_a_look();
                self.look();
            }
            Step::Join(page) => self.join(page),
            Step::Cut(n) => {
                if let Some(n) = n.checked_rem(self.members.len()) {
                    let member = &mut self.members[n];
                    let position = member.position();
                    if let Client::Detached(listener) = &mut member.client {
                        listener.cursor = self.feed.after(position);
                    }
                }
            }
            Step::Take(n) => {
                if let Some(n) = n.checked_rem(self.members.len())
                    && let Client::Detached(listener) = &mut self.members[n].client
                {
                    listener.take_now(&mut self.feed);
                }
            }
            Step::Poll(n, turn) => {
                self.plan_in_pool(turn);
                if let Some(n) = n.checked_rem(self.members.len()) {
                    self.members[n].poll();
                }
            }
            Step::Read(turn) => self.reader.plan(turn),
            Step::Release => self.reader.release(1),
            Step::Refresh => drop(self.feed.refresh(self.members.len())),
            Step::Settle => {
                self.reader.behave();
                self.feed.settle_down(self.members.len());
            }
            Step::Say => self.sent.push("said", "x", 1 << 20),
        }
    }

    /// Blocks until the table reader has answered all questions or waits for a release. The same steps
    /// therefore always have the same outcome.
    fn await_reader(&self) {
        while self.feed.reader.is_at_work() && !self.reader.is_waiting() {
            thread::yield_now();
        }
    }

    fn join(&mut self, page: Page) {
        let since = match page {
            Page::Nothing => 0,
            Page::Known => self.database.newest(),
            Page::Committed => self.scripted.last_committed(),
        };
        let client = match self.members.len() % 3 {
            2 => Client::Pooled { lease: self.database.lease(), got: Vec::new() },
            _ => Client::Detached(Listener::at(self.feed.after(since))),
        };
        self.members.push(Member { client, since });
    }

    /// Ends the script: every call is answered, and each listener gets the models that it lacks.
    fn end(mut self) -> Result<(), TestCaseError> {
        while self.scripted.open_transactions() > 0 {
            self.scripted.commit(0);
        }
        self.plan_in_pool(ScriptedTurn::Answer);
        self.reader.behave();
        // First the remaining notifications are read, and then the commits without one.
        self.scripted.look_at_the_table();
        while self.scripted.has_notices() {
            self.look();
        }
        self.feed.settle_down(self.members.len());
        let ids = self.scripted.ids();
        for (n, member) in self.members.iter_mut().enumerate() {
            match &mut member.client {
                Client::Detached(listener) => while listener.take(&mut self.feed) {},
                Client::Pooled { .. } => while member.poll() {},
            }
            let (got, since) = (member.got(), member.since);
            let is_in_order =
                got.is_sorted_by(|a, b| a < b) && got.first().is_none_or(|first| *first > since);
            prop_assert!(is_in_order, "listener {n} has {since} and got {got:?}");
            // A deleted model may have been delivered before.
            let lost: Vec<_> = ids.iter().filter(|id| **id > since && !got.contains(id)).collect();
            prop_assert!(lost.is_empty(), "listener {n} has {since}, got {got:?} and lost {lost:?}");
        }
        Ok(())
    }
}

impl Member {
    /// Polls as a stream by id does. Returns whether there was a model.
    fn poll(&mut self) -> bool {
        let position = self.position();
        let Client::Pooled { lease, got } = &mut self.client else { return false };
        let Ok(batch) = lease.query(None, |db| db.next(position, BATCH)) else { return false };
        got.extend(batch.models.iter().map(|model| model.id));
        !batch.models.is_empty()
    }
}

fn run(numbers: Numbers, most_bytes: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut run = Run::new(numbers, most_bytes);
    for step in steps {
        run.take(step);
        run.await_reader();
    }
    run.end()
}

/// A turn of a session that the test's own thread waits for. It is therefore never late.
fn prompt() -> impl Strategy<Value = ScriptedTurn> {
    prop_oneof![6 => Just(ScriptedTurn::Answer), 1 => Just(ScriptedTurn::Fail), 1 => Just(ScriptedTurn::FailLate)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = || 0..64_usize;
    let page = prop_oneof![Just(Page::Nothing), Just(Page::Known), Just(Page::Committed)];
    let read = prop_oneof![
        1 => Just(ScriptedTurn::Answer),
        1 => Just(ScriptedTurn::Fail),
        1 => Just(ScriptedTurn::FailLate),
        3 => Just(ScriptedTurn::AnswerLate)
    ];
    let step = prop_oneof![
        4 => prompt().prop_map(Step::Create),
        4 => Just(Step::Begin),
        4 => n().prop_map(Step::Commit),
        1 => n().prop_map(Step::RollBack),
        1 => (1..6_usize).prop_map(Step::Delete),
        3 => n().prop_map(Step::Notify),
        3 => Just(Step::Look),
        1 => Just(Step::LookAtTheTable),
        1 => Just(Step::LookInVain),
        2 => page.prop_map(Step::Join),
        2 => n().prop_map(Step::Cut),
        8 => n().prop_map(Step::Take),
        3 => (n(), prompt()).prop_map(|(n, turn)| Step::Poll(n, turn)),
        3 => read.prop_map(Step::Read),
        3 => Just(Step::Release),
        4 => Just(Step::Refresh),
        2 => Just(Step::Settle),
        1 => Just(Step::Say),
    ];
    prop::collection::vec(step, 0..200)
}

/// Generates the same scripts at each run, and does not write a file when a case fails.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn every_listener_gets_every_model_once_and_in_order_whatever_the_database_does() {
    let scripts = (500..4_000_usize, steps());
    let outcome = runner(300).run(&scripts, |(most_bytes, steps)| run(Numbers::AtCommit, most_bytes, &steps));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_answer_read_before_a_commit_does_not_settle_a_later_question() {
    // Random scripts rarely commit at this moment: the only known model has been deleted, the table is
    // empty when it is read, and it has a new model when the answer arrives.
    let models = [
        Step::Join(Page::Nothing),
        Step::Create(ScriptedTurn::Answer),
        Step::Delete(1),
        Step::Read(ScriptedTurn::AnswerLate),
        Step::Refresh,
        Step::Begin,
        Step::Commit(0),
        Step::LookAtTheTable,
        Step::Release,
        Step::Settle,
        Step::Take(0),
    ];
    run(Numbers::AtCommit, 1_000, &models).unwrap();
    // The second listener has a model that was committed after the last id was read for the first one.
    let last_id = [
        Step::Begin,
        Step::Commit(0),
        Step::Join(Page::Committed),
        Step::Read(ScriptedTurn::AnswerLate),
        Step::Take(0),
        Step::Begin,
        Step::Commit(0),
        Step::Join(Page::Committed),
        Step::Release,
        Step::Refresh,
        Step::Take(1),
        Step::Settle,
    ];
    run(Numbers::AtCommit, 1_000, &last_id).unwrap();
}

#[test]
fn the_property_fails_if_numbers_become_visible_out_of_order() {
    // Number 2 is committed, announced and delivered, and then number 1.
    let script = [
        Step::Join(Page::Nothing),
        Step::Begin,
        Step::Begin,
        Step::Commit(1),
        Step::Notify(0),
        Step::Look,
        Step::Settle,
        Step::Take(0),
        Step::Commit(0),
        Step::Notify(0),
        Step::LookAtTheTable,
        Step::Settle,
    ];
    run(Numbers::AtCommit, 1_000, &script).unwrap();
    let lost = run(Numbers::AtBegin, 1_000, &script).unwrap_err().to_string();
    assert!(lost.contains("has 0, got [2] and lost [1]"), "{lost}");
    // The random scripts of the property find the loss as well.
    let outcome = runner(300).run(&steps().no_shrink(), |steps| run(Numbers::AtBegin, 1_000, &steps));
    assert!(matches!(outcome, Err(TestError::Fail(..))), "{outcome:?}");
}
