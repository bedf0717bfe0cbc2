//! What is announced: the newest of what was committed and said, each made once for all.
//!
//! This is the feed of the loop in which all listeners live ([`super::broadcaster`]): what is new is
//! read from the table, once, and kept for those who are slow, bounded by its bytes. A listener
//! has a [`Cursor`] in it. One that is so far behind that its place is no longer kept is cut;
//! its client comes back with the id of the last model that it has, and is given from the table
//! what it missed, a piece at a time, until it is among the others again. So the table is the
//! buffer for those who were away, and this one for those who are slow.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::batch::Limit;
use super::database::Database;
use super::model::Model;
use super::models_controller::BATCH;
use super::position;
use super::table::Table;
use crate::live::detached::Feed;

/// After a question in vain, how long it does not ask again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The most models in one announcement, and the most bytes of their names. It bounds what is kept
/// for a listener that does not read.
const PIECE: Limit = Limit { rows: BATCH.rows, bytes: 64 * 1024 };
/// How many pieces of the past are kept: those who come back together want the same.
const PAST_PIECES: usize = 32;
/// In how many shapes an announcement is kept for all; others are made for each.
const SHAPES: usize = 8;
/// What an announcement is counted for besides its text, in bytes.
const OVERHEAD: usize = 256;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All models after the id `after`, up to the last of these.
    Models { after: i64, models: Vec<Model> },
    /// Something that application code has to say.
    Event { name: String, data: String },
}

/// Something that is told to all, in the shapes in which it was asked for so far.
pub struct Announcement {
    pub news: News,
    shapes: RefCell<Vec<Shape>>,
}

/// A shape's name, and the bytes in it.
type Shape = (Box<str>, Rc<[u8]>);

impl Announcement {
    fn new(news: News) -> Rc<Announcement> {
        Rc::new(Announcement { news, shapes: RefCell::default() })
    }

    /// Its bytes in the shape of this name, made at most once for all who want it.
    pub fn shaped(&self, shape: &str, make: impl FnOnce(&News) -> Vec<u8>) -> Rc<[u8]> {
        let mut shapes = self.shapes.borrow_mut();
        if let Some((_, bytes)) = shapes.iter().find(|(name, _)| **name == *shape) {
            return Rc::clone(bytes);
        }
        let bytes: Rc<[u8]> = make(&self.news).into();
        if shapes.len() < SHAPES {
            shapes.push((shape.into(), Rc::clone(&bytes)));
        }
        bytes
    }

    fn bytes(&self) -> usize {
        let text: usize = match &self.news {
            News::Models { models, .. } => {
                models.iter().map(|model| model.name.len() + mem::size_of::<Model>()).sum()
            }
            News::Event { name, data } => name.len() + data.len(),
        };
        let shapes: usize = self.shapes.borrow().iter().map(|(_, bytes)| bytes.len()).sum();
        text + shapes + OVERHEAD
    }
}

/// How far a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    table: Table,
    /// The last model that it has.
    position: i64,
    /// The number of the next announcement; None while it is given what it missed.
    next: Option<u64>,
}

impl Cursor {
    /// The last model that it has.
    pub fn position(self) -> i64 {
        self.position
    }
}

/// A listener's place is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellBehind;

/// The announcements.
pub struct Announcements {
    db: Connection,
    database: Arc<Database>,
    sent: Arc<Sent>,
    /// The most bytes that are kept.
    most_bytes: usize,
    kept: VecDeque<Rc<Announcement>>,
    kept_bytes: usize,
    /// The number of the first that is kept.
    first: u64,
    /// Which table these are of.
    table: Table,
    /// Up to which model the announcements go.
    position: i64,
    /// From which model on they are kept without a gap.
    from: i64,
    past: VecDeque<Rc<Announcement>>,
    /// When the database was last asked in vain.
    failed_at: Option<Instant>,
}

/// What was sent and not announced yet.
#[derive(Default)]
pub(super) struct Sent(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<(String, String)>,
    bytes: usize,
}

impl Sent {
    pub fn push(&self, name: &str, data: &str, most_bytes: usize) {
        let bytes = |name: &str, data: &str| name.len() + data.len() + OVERHEAD;
        // Each change is whole, even after a panic.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += bytes(name, data);
        waiting.events.push_back((name.to_owned(), data.to_owned()));
        while waiting.bytes > most_bytes && waiting.events.len() > 1 {
            let Some((name, data)) = waiting.events.pop_front() else { break };
            waiting.bytes -= bytes(&name, &data);
        }
    }

    /// What was sent since this was last asked.
    pub fn take(&self) -> VecDeque<(String, String)> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).events
    }
}

impl Announcements {
    pub(super) fn new(db: Connection, database: Arc<Database>, sent: Arc<Sent>, most_bytes: usize) -> Self {
        let (table, position) = (database.table(), database.newest());
        Announcements {
            db,
            database,
            table,
            sent,
            most_bytes,
            kept: VecDeque::new(),
            kept_bytes: 0,
            first: 0,
            position,
            from: position,
            past: VecDeque::new(),
            failed_at: None,
        }
    }

    /// The newest model that is known to be committed.
    pub fn newest(&self) -> i64 {
        self.database.newest()
    }

    /// A listener that has all up to this model. One that is newer than all there are is of
    /// another database: such a listener has none of ours.
    pub fn after(&mut self, id: i64) -> Cursor {
        let mut position = id;
        if id > self.newest() {
            // What another program has just written may not be known yet.
            self.database.count_query();
            match Model::last_id(&self.db) {
                Ok(last) => position = position::resolve(id, last),
                Err(error) => log::error!("whether there is a model {id} is not known: {error}"),
            }
        }
        Cursor { table: self.table, position, next: None }
    }

    /// What comes next for this listener; None: nothing at present.
    pub fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Rc<Announcement>>, FellBehind> {
        if cursor.table != self.table {
            *cursor = Cursor { table: self.table, position: 0, next: None };
        }
        loop {
            let Some(number) = cursor.next else {
                if cursor.position >= self.from {
                    cursor.next = Some(self.first_after(cursor.position));
                    continue;
                }
                let Some(piece) = self.past(cursor.position) else { return Ok(None) };
                cursor.position = piece.last().unwrap_or(self.from);
                return Ok(Some(piece));
            };
            let place = number.checked_sub(self.first).ok_or(FellBehind)?;
            let Some(announcement) = self.kept.get(place as usize) else { return Ok(None) };
            cursor.next = Some(number + 1);
            let News::Models { after, models } = &announcement.news else {
                return Ok(Some(Rc::clone(announcement)));
            };
            let last = models.last().map_or(*after, |model| model.id);
            let known = cursor.position;
            cursor.position = known.max(last);
            if last <= known {
                continue;
            }
            if known <= *after {
                return Ok(Some(Rc::clone(announcement)));
            }
            // It has the first of them already: its page was rendered meanwhile.
            let models = models.iter().filter(|model| model.id > known).cloned().collect();
            return Ok(Some(Announcement::new(News::Models { after: known, models })));
        }
    }

    /// Whether the place of this listener is no longer kept.
    pub fn has_lost(&self, cursor: &Cursor) -> bool {
        cursor.table == self.table && cursor.next.is_some_and(|next| next < self.first)
    }

    /// The number of the first announcement with a model after this one, or of the next to come.
    fn first_after(&self, position: i64) -> u64 {
        let place = self.kept.iter().position(|it| it.last().is_some_and(|last| last > position));
        self.first + place.unwrap_or(self.kept.len()) as u64
    }

    /// What the table has after this model.
    fn past(&mut self, position: i64) -> Option<Rc<Announcement>> {
        let is_it =
            |it: &&Rc<Announcement>| matches!(&it.news, News::Models { after, .. } if *after == position);
        if let Some(piece) = self.past.iter().find(is_it) {
            return Some(Rc::clone(piece));
        }
        let models = self.ask(position)?;
        let piece = Announcement::new(News::Models { after: position, models });
        if self.past.len() == PAST_PIECES {
            self.past.pop_front();
        }
        self.past.push_back(Rc::clone(&piece));
        Some(piece)
    }

    /// The next models of the table; None where it does not answer.
    fn ask(&mut self, after: i64) -> Option<Vec<Model>> {
        if self.failed_at.is_some_and(|at| at.elapsed() < ASK_AGAIN_AFTER) {
            return None;
        }
        self.database.count_query();
        match Model::next(&self.db, after, PIECE) {
            Ok(batch) => {
                self.failed_at = None;
                Some(batch.models)
            }
            Err(error) => {
                if self.failed_at.replace(Instant::now()).is_none() {
                    log::error!("listeners are not told what is committed: {error}");
                }
                None
            }
        }
    }

    fn announce(&mut self, news: News) {
        let announcement = Announcement::new(news);
        self.kept_bytes += announcement.bytes();
        self.kept.push_back(announcement);
    }

    /// Keeps nothing: no listener is there, or each begins anew. They begin with the table.
    fn begin_with_the_table(&mut self, newest: i64) {
        self.first += self.kept.len() as u64;
        self.kept.clear();
        self.past.clear();
        (self.position, self.from) = (newest, newest);
    }

    /// Lets go of the oldest. Their shapes were made after they were counted.
    fn forget(&mut self) {
        self.kept_bytes = self.kept.iter().map(|it| it.bytes()).sum();
        // The newest is for those who are not slow at all.
        while self.kept_bytes > self.most_bytes && self.kept.len() > 1 {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.bytes();
            self.first += 1;
            self.from = oldest.last().unwrap_or(self.from);
        }
    }
}

impl Announcement {
    /// The last model in it.
    fn last(&self) -> Option<i64> {
        match &self.news {
            News::Models { models, .. } => models.last().map(|model| model.id),
            News::Event { .. } => None,
        }
    }
}

impl Feed for Announcements {
    fn refresh(&mut self, peers: usize) -> bool {
        let (table, newest) = (self.database.table(), self.database.newest());
        let is_another = mem::replace(&mut self.table, table) != table;
        if is_another {
            self.begin_with_the_table(newest);
        }
        let before = self.first + self.kept.len() as u64;
        for (name, data) in self.sent.take() {
            self.announce(News::Event { name, data });
        }
        if peers == 0 {
            self.begin_with_the_table(newest);
            return false;
        }
        while self.position < newest {
            let Some(models) = self.ask(self.position) else { break };
            let after = self.position;
            // Without any, they are all forgotten again.
            self.position = models.last().map_or(newest, |model| model.id);
            if !models.is_empty() {
                self.announce(News::Models { after, models });
            }
        }
        let has_news = before < self.first + self.kept.len() as u64;
        if has_news {
            self.forget();
        }
        has_news || is_another
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::LeaseFor;
    use super::*;

    struct Listener {
        cursor: Cursor,
        got: Vec<i64>,
    }

    impl Listener {
        /// Takes one announcement; comes back if it fell behind. Whether there was one.
        fn take(&mut self, feed: &mut Announcements) -> bool {
            match feed.next(&mut self.cursor) {
                Ok(Some(it)) => {
                    if let News::Models { models, .. } = &it.news {
                        self.got.extend(models.iter().map(|model| model.id));
                    }
                    true
                }
                Ok(None) => false,
                Err(FellBehind) => {
                    assert!(self.cursor.next.is_some(), "who is told of the past cannot fall behind");
                    self.cursor = feed.after(self.cursor.position());
                    true
                }
            }
        }
    }

    fn feed(most_bytes: usize) -> (tempfile::TempDir, Arc<Database>, Arc<Sent>, Announcements) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database = Database::open(&path, 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let sent = Arc::<Sent>::default();
        let db = database.connect().unwrap();
        let feed = Announcements::new(db, Arc::clone(&database), Arc::clone(&sent), most_bytes);
        (folder, database, sent, feed)
    }

    #[test]
    fn everybody_gets_everything_once_however_slow_and_however_often_it_is_cut() {
        for seed in 0..40 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let (_folder, database, sent, mut feed) = feed(dice.usize(500..4_000));
            let mut theirs = database.connect().unwrap();
            let mut listeners: Vec<Listener> = Vec::new();
            for _ in 0..300 {
                match dice.u8(0..10) {
                    0..3 => {
                        for _ in 0..dice.usize(1..8) {
                            let id = Model::create(&mut theirs, "a model", 1_000_000).unwrap().id;
                            // What another program writes is told of later.
                            if dice.bool() {
                                database.committed(id);
                            }
                        }
                    }
                    3 => sent.push("said", "x", 1 << 20),
                    4 if listeners.len() < 5 => {
                        listeners.push(Listener { cursor: feed.after(0), got: Vec::new() });
                    }
                    5 if !listeners.is_empty() => {
                        // Cut: it comes back with what it has, which may be more than was announced.
                        let cut = dice.choice(&mut listeners).unwrap();
                        cut.cursor = feed.after(cut.got.last().copied().unwrap_or(0));
                    }
                    6 => {
                        feed.refresh(listeners.len());
                    }
                    _ => {
                        if let Some(listener) = dice.choice(&mut listeners) {
                            listener.take(&mut feed);
                        }
                    }
                }
                assert!(feed.kept.len() <= 1 || feed.kept_bytes <= feed.most_bytes);
            }
            let newest = Model::newest_id(&theirs).unwrap();
            database.committed(newest);
            feed.refresh(1);
            for (n, listener) in listeners.iter_mut().enumerate() {
                while listener.take(&mut feed) {}
                let all: Vec<i64> = (1..=newest).collect();
                assert_eq!(listener.got, all, "seed {seed}, listener {n}");
            }
        }
    }

    #[test]
    fn those_who_come_back_together_cost_one_query() {
        let (_folder, database, _, mut feed) = feed(1 << 20);
        let mut theirs = database.connect().unwrap();
        for _ in 0..120 {
            database.committed(Model::create(&mut theirs, "a model", 1_000).unwrap().id);
        }
        feed.refresh(0);
        let before = database.queries();
        let mut listeners: Vec<_> =
            (0..1_000).map(|_| Listener { cursor: feed.after(0), got: Vec::new() }).collect();
        for listener in &mut listeners {
            while listener.take(&mut feed) {}
            assert_eq!(listener.got.len(), 120);
        }
        assert_eq!(database.queries() - before, 3, "50, 50 and 20");
    }

    #[test]
    fn a_shape_is_made_once() {
        let told = Announcement::new(News::Event { name: "a".to_owned(), data: "b".to_owned() });
        let made = |shape: &str| told.shaped(shape, |_| shape.as_bytes().to_vec());
        assert!(Rc::ptr_eq(&made("x"), &made("x")));
        assert_eq!(&*made("y"), b"y");
        for n in 0..20 {
            made(&n.to_string());
        }
        assert_eq!(told.shapes.borrow().len(), SHAPES);
    }
}
