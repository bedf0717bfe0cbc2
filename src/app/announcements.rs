//! What is announced: the newest of what was committed and said, each made once for all.
//!
//! This is the feed of the loop in which all listeners live ([`super::broadcaster`]): what is new is
//! read from the table, once, and kept for those who are slow, bounded by its bytes. A listener
//! has a [`Cursor`] in it. One that is so far behind that its place is no longer kept is cut;
//! its client comes back with the id of the last model that it has, and is given from the table
//! what it missed, a piece at a time, until it is among the others again. So the table is the
//! buffer for those who were away, and this one for those who are slow.
//!
//! Nothing here waits for the database: a thread asks it ([`super::table_reader`]), and whoever
//! needs an answer that is not there yet has nothing to say until the loop is woken with it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Limit;
use super::database::Database;
use super::model::Model;
use super::models_controller::BATCH;
use super::position;
use super::table::Table;
use super::table_reader::{Answer, Question, TableReader};
use crate::live::detached::Feed;
use crate::service;

/// After a question in vain, how long it does not ask again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The most models in one announcement, and the most bytes of their names. It bounds what is kept
/// for a listener that does not read.
pub(super) const PIECE: Limit = Limit { rows: BATCH.rows, bytes: 64 * 1024 };
/// How many pieces of the past are kept: those who come back together want the same.
const PAST_PIECES: usize = 32;
/// How many answers are taken in at once. They are fewer than the pieces that are kept, so each is
/// still there when the listeners that wait for it are asked.
const ANSWERS_A_TURN: usize = PAST_PIECES / 2;
/// In how many shapes an announcement is kept for all; others are made for each.
const SHAPES: usize = 8;
/// The most bytes of shapes that an announcement keeps, its first one apart. With [`PIECE`] it bounds
/// what the pieces of the past take.
const SHAPE_BYTES: usize = 256 * 1024;
/// What an announcement is counted for besides its text, in bytes.
const OVERHEAD: usize = 256;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All models after the id `after`, up to `up_to`. Those that `lost` names are no longer in the
    /// table: for whoever asked for them there is a gap.
    Models { after: i64, models: Vec<Model>, up_to: i64, lost: Option<Lost> },
    /// Something that application code has to say.
    Event { name: String, data: String },
}

/// The ids, first and last, that a client asked for and that the table no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub first: i64,
    pub last: i64,
}

impl Lost {
    /// What is missing between a client's position and the first model that comes after it.
    pub fn between(position: i64, models: &[Model]) -> Option<Lost> {
        let first = position.checked_add(1)?;
        let last = models.first()?.id.checked_sub(1)?;
        (first <= last).then_some(Lost { first, last })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the models from {} to {} are no longer kept", self.first, self.last)
    }
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
        // If making it panics, that costs this shape of this announcement, once for all who want it.
        let made = service::piece(format_args!("the shape {shape}"), || make(&self.news));
        let bytes: Rc<[u8]> = made.unwrap_or_default().into();
        let kept: usize = shapes.iter().map(|(_, bytes)| bytes.len()).sum();
        if shapes.is_empty() || (shapes.len() < SHAPES && kept + bytes.len() <= SHAPE_BYTES) {
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
    place: Place,
    /// Whether it has been given anything of the table yet.
    is_new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It claims to have a model that is not known. Whether it is one of this database is known
    /// after so many looks at the newest.
    Unchecked { looks: u64 },
    /// It is given what it missed.
    Past,
    /// The number of the next announcement.
    At(u64),
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
    reader: TableReader,
    /// Makes the loop refresh this again.
    notify: Box<dyn Fn()>,
    /// How often the newest model was looked for, in answer to an order.
    looks: u64,
    /// How many there were when this was last refreshed.
    listeners: usize,
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
    pub(super) fn new(
        reader: TableReader,
        notify: impl Fn() + 'static,
        database: Arc<Database>,
        sent: Arc<Sent>,
        most_bytes: usize,
    ) -> Self {
        let (table, position) = (database.table(), database.newest());
        Announcements {
            reader,
            notify: Box::new(notify),
            looks: 0,
            listeners: 0,
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

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        self.listeners
    }

    /// The newest model that is known to be committed.
    pub fn newest(&self) -> i64 {
        self.database.newest()
    }

    /// A listener that has all up to this model. What an id beyond the last one means is decided
    /// after a look at the table ([`Self::settle`]): another program may have just written it.
    pub fn after(&self, id: i64) -> Cursor {
        // A look that is under way may have begun before that model was written.
        let looks = self.looks + 1 + u64::from(self.reader.is_ordered(Question::Last));
        let place = if id > self.newest() { Place::Unchecked { looks } } else { Place::Past };
        Cursor { table: self.table, position: id, place, is_new: true }
    }

    /// Whether it is decided where this listener goes on. If not, the table is being looked at.
    pub fn settle(&mut self, cursor: &mut Cursor) -> bool {
        if cursor.table != self.table {
            *cursor = Cursor { table: self.table, position: 0, place: Place::Past, is_new: false };
        }
        let Place::Unchecked { looks } = cursor.place else { return true };
        if cursor.position > self.newest() && self.looks < looks {
            self.order(Question::Last);
            return false;
        }
        let id = cursor.position;
        cursor.position = position::resolve(id, self.newest());
        // What another table had is no gap of this one.
        cursor.is_new &= cursor.position == id;
        cursor.place = Place::Past;
        true
    }

    /// What comes next for this listener; None: nothing at present.
    pub fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Rc<Announcement>>, FellBehind> {
        loop {
            if !self.settle(cursor) {
                return Ok(None);
            }
            let number = match cursor.place {
                // It has just been settled.
                Place::Unchecked { .. } => return Ok(None),
                Place::Past if cursor.position >= self.from => {
                    cursor.place = Place::At(self.first_after(cursor.position));
                    continue;
                }
                Place::Past => {
                    let Some(piece) = self.past(cursor.position) else { return Ok(None) };
                    let News::Models { up_to, lost, .. } = &piece.news else { return Ok(None) };
                    if lost.is_some() && cursor.is_new {
                        self.database.count_gap();
                    }
                    cursor.is_new = false;
                    cursor.position = *up_to;
                    return Ok(Some(piece));
                }
                Place::At(number) => number,
            };
            let index = number.checked_sub(self.first).ok_or(FellBehind)?;
            let Some(announcement) = self.kept.get(index as usize) else { return Ok(None) };
            cursor.place = Place::At(number + 1);
            let News::Models { after, models, up_to, .. } = &announcement.news else {
                return Ok(Some(Rc::clone(announcement)));
            };
            let known = cursor.position;
            cursor.position = known.max(*up_to);
            if *up_to <= known {
                continue;
            }
            if known <= *after {
                return Ok(Some(Rc::clone(announcement)));
            }
            // It has the first of them already: its page was rendered meanwhile.
            let models = models.iter().filter(|model| model.id > known).cloned().collect();
            let news = News::Models { after: known, models, up_to: *up_to, lost: None };
            return Ok(Some(Announcement::new(news)));
        }
    }

    /// Whether the place of this listener is no longer kept.
    pub fn has_lost(&self, cursor: &Cursor) -> bool {
        cursor.table == self.table && matches!(cursor.place, Place::At(next) if next < self.first)
    }

    /// The number of the first announcement with a model after this one, or of the next to come.
    fn first_after(&self, position: i64) -> u64 {
        let place = self.kept.iter().position(|it| it.last().is_some_and(|last| last > position));
        self.first + place.unwrap_or(self.kept.len()) as u64
    }

    /// What the table has after this model; None: it is ordered.
    fn past(&mut self, position: i64) -> Option<Rc<Announcement>> {
        let is_it =
            |it: &&Rc<Announcement>| matches!(&it.news, News::Models { after, .. } if *after == position);
        let piece = self.past.iter().find(is_it).map(Rc::clone);
        if piece.is_none() {
            self.order(Question::After(position));
        }
        piece
    }

    /// Asks the table, unless it has just not answered.
    fn order(&mut self, question: Question) {
        if self.failed_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN_AFTER) {
            self.reader.order(question);
        }
    }

    /// Takes in the answers that are there, not all at once if there are many.
    fn take_answers(&mut self) -> bool {
        for taken in 0..=ANSWERS_A_TURN {
            if taken == ANSWERS_A_TURN {
                (self.notify)();
                break;
            }
            let Some(answer) = self.reader.take() else { return taken > 0 };
            self.failed_at = matches!(answer, Answer::Failed(_)).then(Instant::now);
            match answer {
                // They were read before the ids began anew.
                Answer::Models { table, .. } if table != self.table => {}
                Answer::Models { after, models, up_to, .. } if after == self.position => {
                    // Without any, they are all deleted again.
                    self.position = up_to;
                    if !models.is_empty() {
                        self.announce(News::Models { after, models, up_to, lost: None });
                    }
                }
                Answer::Models { after, models, up_to, .. } => {
                    let lost = Lost::between(after, &models);
                    if self.past.len() == PAST_PIECES {
                        self.past.pop_front();
                    }
                    self.past.push_back(Announcement::new(News::Models { after, models, up_to, lost }));
                }
                Answer::Last => self.looks += 1,
                Answer::Failed(_) => {}
            }
        }
        true
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
            News::Models { up_to, .. } => Some(*up_to),
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
        self.listeners = peers;
        let before = self.first + self.kept.len() as u64;
        for (name, data) in self.sent.take() {
            self.announce(News::Event { name, data });
        }
        let has_answers = self.take_answers();
        if peers == 0 {
            self.begin_with_the_table(newest);
            return false;
        }
        if self.position < newest {
            self.order(Question::After(self.position));
        }
        if before < self.first + self.kept.len() as u64 {
            self.forget();
            return true;
        }
        has_answers || is_another
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::super::database::LeaseFor;
    use super::super::table_reader::{Models, Source};
    use super::*;
    use crate::service::Services;

    struct Listener {
        cursor: Cursor,
        got: Vec<i64>,
    }

    impl Listener {
        /// Takes one announcement, if need be when the table has been read; comes back if it fell
        /// behind. Whether there was one.
        fn take(&mut self, feed: &mut Announcements) -> bool {
            let mut next = feed.next(&mut self.cursor);
            while matches!(next, Ok(None)) && feed.reader.is_reading() {
                feed.settle_down(1);
                next = feed.next(&mut self.cursor);
            }
            match next {
                Ok(Some(it)) => {
                    if let News::Models { models, .. } = &it.news {
                        self.got.extend(models.iter().map(|model| model.id));
                    }
                    true
                }
                Ok(None) => false,
                Err(FellBehind) => {
                    assert!(matches!(self.cursor.place, Place::At(_)), "of the past there is always more");
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
        let table = Models { db: database.connect().unwrap(), database: Arc::clone(&database) };
        let feed = reading(table, &database, Arc::clone(&sent), most_bytes);
        (folder, database, sent, feed)
    }

    fn reading(
        table: impl Source,
        database: &Arc<Database>,
        sent: Arc<Sent>,
        most_bytes: usize,
    ) -> Announcements {
        let (end, _) = bounded(0);
        let reader = TableReader::start(table, &Services::default(), || {}, end).unwrap();
        Announcements::new(reader, || {}, Arc::clone(database), sent, most_bytes)
    }

    /// Announcements whose database never answers.
    pub(crate) fn blocked_feed() -> (tempfile::TempDir, Announcements) {
        struct Never;

        impl Source for Never {
            fn ask(&mut self, _: Question) -> rusqlite::Result<Answer> {
                loop {
                    thread::park();
                }
            }
        }

        let (folder, database, sent, _) = feed(1 << 20);
        let feed = reading(Never, &database, sent, 1 << 20);
        (folder, feed)
    }

    impl Announcements {
        /// Refreshes it until all that was ordered is answered.
        fn settle_down(&mut self, peers: usize) {
            self.refresh(peers);
            while self.reader.is_reading() {
                thread::sleep(Duration::from_micros(20));
                self.refresh(peers);
            }
        }
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
                        feed.settle_down(listeners.len());
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
            feed.settle_down(1);
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
        // All of them want each piece before it is there.
        for _ in 0..8 {
            for listener in &mut listeners {
                if let Ok(Some(piece)) = feed.next(&mut listener.cursor)
                    && let News::Models { models, .. } = &piece.news
                {
                    listener.got.extend(models.iter().map(|model| model.id));
                }
            }
            feed.settle_down(1_000);
        }
        assert!(listeners.iter().all(|listener| listener.got.len() == 120));
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

    #[test]
    fn a_shape_that_panics_costs_that_piece_once_for_all_listeners() {
        let announcement = Announcement::new(News::Event { name: "a".to_owned(), data: "b".to_owned() });
        let mut made = 0;
        for _ in 0..1_000 {
            let bytes = announcement.shaped("x", |_| {
                made += 1;
                panic!("as a test wants it")
            });
            assert!(bytes.is_empty());
        }
        assert_eq!(made, 1);
        assert_eq!(&*announcement.shaped("y", |_| b"y".to_vec()), b"y");
    }

    /// A table that answers when it is let, and what it was asked.
    struct Blocked {
        table: Models,
        asked: Sender<Question>,
        let_go: Receiver<()>,
    }

    impl Source for Blocked {
        fn ask(&mut self, question: Question) -> rusqlite::Result<Answer> {
            self.asked.send(question).unwrap();
            self.let_go.recv().unwrap();
            self.table.ask(question)
        }
    }

    #[test]
    fn while_the_database_is_blocked_each_piece_is_ordered_once_and_events_go_on() {
        let (_folder, database, sent, _) = feed(1 << 20);
        let mut theirs = database.connect().unwrap();
        for _ in 0..5 {
            database.committed(Model::create(&mut theirs, "a model", 1_000).unwrap().id);
        }
        let (asked, questions) = bounded(100);
        let (let_go, blocked) = bounded(100);
        let table = Models { db: database.connect().unwrap(), database: Arc::clone(&database) };
        let table = Blocked { table, asked, let_go: blocked };
        let mut feed = reading(table, &database, Arc::clone(&sent), 1 << 20);
        let mut listeners: Vec<Listener> = (0..100)
            .map(|n| Listener { cursor: feed.after([0, 3, 5, 99][n % 4]), got: Vec::new() })
            .collect();
        for _ in 0..50 {
            feed.refresh(listeners.len());
            for listener in &mut listeners {
                assert_eq!(feed.next(&mut listener.cursor).map(|it| it.is_some()), Ok(false));
            }
        }
        // What needs no table is not held up.
        sent.push("said", "x", 1 << 20);
        assert!(feed.refresh(listeners.len()));
        assert!(matches!(feed.next(&mut listeners[2].cursor), Ok(Some(_))));
        for _ in 0..100 {
            let_go.send(()).unwrap();
        }
        feed.settle_down(listeners.len());
        for listener in &mut listeners {
            while listener.take(&mut feed) {}
        }
        let wanted = |n: usize| -> &[i64] { [&[1, 2, 3, 4, 5][..], &[4, 5], &[], &[1, 2, 3, 4, 5]][n % 4] };
        assert!(listeners.iter().enumerate().all(|(n, it)| it.got == wanted(n)));
        let mut questions: Vec<Question> = questions.try_iter().collect();
        questions.sort_unstable();
        assert_eq!(questions, [Question::After(0), Question::After(3), Question::Last]);
    }

    #[test]
    fn a_position_that_is_no_longer_kept_is_named_and_counted_once_per_listener() {
        let (_folder, database, _, mut feed) = feed(1 << 20);
        let mut theirs = database.connect().unwrap();
        for _ in 0..80 {
            database.committed(Model::create(&mut theirs, "a model", 60).unwrap().id);
        }
        feed.settle_down(0);
        for (position, first) in [(5, Some(6)), (20, None), (0, Some(1)), (80, None)] {
            let before = database.gaps();
            let mut listener = Listener { cursor: feed.after(position), got: Vec::new() };
            feed.settle_down(1);
            let _ = feed.next(&mut listener.cursor);
            feed.settle_down(1);
            if let Ok(Some(piece)) = feed.next(&mut listener.cursor)
                && let News::Models { lost, .. } = &piece.news
            {
                assert_eq!(*lost, first.map(|first| Lost { first, last: 20 }));
            }
            while listener.take(&mut feed) {}
            assert_eq!(database.gaps() - before, u64::from(first.is_some()), "{position}");
        }
    }
}
