//! Announcements: the newest committed models and sent events, each serialized once for all listeners.
//!
//! This is the feed of the event loop that serves all listeners ([`super::broadcaster`]). New models are read
//! from the table once, and kept for slow listeners up to a limit in bytes. Each listener has a [`Cursor`]. A
//! listener whose next announcement is no longer kept is cut off. Its client reconnects with the id of the
//! last model that it has, and gets the models that it missed from the table, piece by piece, until it has
//! caught up. The table is thus the buffer for clients that were disconnected, and the kept announcements are
//! the buffer for slow listeners.
//!
//! Nothing in this module waits for the database: a separate thread queries it (`table_reader`). A listener
//! that needs an answer gets nothing until the answer arrives and wakes the loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::database::Database;
use super::model::{Model, to_json};
use super::position::{self, Lost};
use super::table::Table;
use super::table_reader::{Question, TableAnswer, TableReader};
use ninetabs_server::event_loop::Feed;
use ninetabs_server::services;

/// How long to wait before the next question after one has failed.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How many past pieces are kept. Clients that reconnect together need the same pieces.
const PAST_PIECES: usize = 32;
/// How many answers are processed per turn. This is less than `PAST_PIECES`, so that each piece is still kept
/// when the listeners that wait for it are served.
const ANSWERS_A_TURN: usize = PAST_PIECES / 2;
/// How many bytes are counted for an announcement in addition to its text.
const OVERHEAD: usize = 256;

/// The content of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All models after the id `after`, up to `up_to`. The table does not contain models with the ids of `lost`: a
    /// client at the position `after` has a gap.
    Models { after: i64, models: Vec<Model>, up_to: i64, lost: Option<Lost> },
    /// An event of application code.
    Event { name: String, data: String },
}

/// News for all listeners, in the shapes that were requested so far. Each shape is named in the code, so
/// there are few of them and a client cannot add one. Together with `PIECE`, this bounds the memory of a
/// piece.
pub struct Announcement {
    pub news: News,
    shapes: RefCell<Vec<Shape>>,
}

/// A shape's name, and the announcement's bytes in that shape.
type Shape = (&'static str, Rc<[u8]>);

impl Announcement {
    fn new(news: News) -> Rc<Announcement> {
        Rc::new(Announcement { news, shapes: RefCell::default() })
    }

    /// Returns this announcement encoded in the shape with this name. It is encoded once for all listeners.
    pub fn shaped(&self, shape: &'static str, make: impl FnOnce(&News) -> Vec<u8>) -> Rc<[u8]> {
        let mut shapes = self.shapes.borrow_mut();
        if let Some((_, bytes)) = shapes.iter().find(|(name, _)| *name == shape) {
            return Rc::clone(bytes);
        }
        // If `make` panics, this shape of this announcement is empty, for all listeners.
        let made = services::piece(format_args!("the shape {shape}"), || make(&self.news));
        let bytes: Rc<[u8]> = made.unwrap_or_default().into();
        shapes.push((shape, Rc::clone(&bytes)));
        bytes
    }

    /// Its models as JSON, one per line. A shape that differs between clients is built around these lines,
    /// so that each model is serialized once.
    pub fn json_lines(&self) -> Rc<[u8]> {
        self.shaped("JSON lines", |news| match news {
            News::Models { models, .. } => {
                models.iter().map(to_json).collect::<Vec<_>>().join("\n").into_bytes()
            }
            News::Event { .. } => Vec::new(),
        })
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

/// A listener's position in the announcements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    table: Table,
    /// The last model that it has.
    position: i64,
    place: Place,
    /// Whether the position is one of the table's ids. False if it was set to 0 because the client sent a
    /// position from another table.
    is_of_table: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The listener claims to have a model that is not known yet. After this many queries for the last id, it
    /// is known whether the model belongs to this table.
    Unchecked { looks: u64 },
    /// The listener is being sent the models that it missed.
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

/// The error for a listener whose next announcement is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellBehind;

/// The announcements.
pub struct Announcements {
    reader: TableReader,
    /// Makes the event loop call `refresh` again.
    notify: Box<dyn Fn()>,
    /// How many queries for the last id have been answered.
    looks: u64,
    /// The last number of the table at the last of these queries.
    last_number: i64,
    /// The number of listeners at the last refresh.
    listeners: usize,
    database: Arc<Database>,
    sent: Arc<Sent>,
    /// Maximum number of bytes that are kept.
    most_bytes: usize,
    kept: VecDeque<Rc<Announcement>>,
    kept_bytes: usize,
    /// The number of the first announcement that is kept.
    first: u64,
    /// The table of these models.
    table: Table,
    /// The last model that was announced.
    position: i64,
    /// All announcements after this model are kept.
    from: i64,
    past: VecDeque<Rc<Announcement>>,
    /// When a question to the database failed, if the last one did.
    failed_at: Option<Instant>,
    /// [`ASK_AGAIN_AFTER`], or less in a test.
    ask_again_after: Duration,
}

/// Events that were sent but not announced yet.
#[derive(Default)]
pub(super) struct Sent(Mutex<WaitingModels>);

#[derive(Default)]
struct WaitingModels {
    events: VecDeque<(String, String)>,
    bytes: usize,
}

impl Sent {
    pub fn push(&self, name: &str, data: &str, most_bytes: usize) {
        let bytes = |name: &str, data: &str| name.len() + data.len() + OVERHEAD;
        // Each change is complete, even after a panic.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += bytes(name, data);
        waiting.events.push_back((name.to_owned(), data.to_owned()));
        while waiting.bytes > most_bytes && waiting.events.len() > 1 {
            let Some((name, data)) = waiting.events.pop_front() else { break };
            waiting.bytes -= bytes(&name, &data);
        }
    }

    /// Takes the events that were sent since the last call.
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
            last_number: 0,
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
            ask_again_after: ASK_AGAIN_AFTER,
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

    /// The cursor of a listener that has all models up to this id. If the id is beyond the last known one,
    /// its meaning is decided after a query of the table ([`Self::settle`]), because another program may have
    /// just written that model.
    pub fn after(&self, id: i64) -> Cursor {
        // A query that is already running may have begun before that model was written.
        let looks = self.looks + 1 + u64::from(self.reader.is_ordered(Question::Last));
        let place = if id > self.newest() { Place::Unchecked { looks } } else { Place::Past };
        Cursor { table: self.table, position: id, place, is_of_table: true }
    }

    /// Returns whether it is decided where this listener continues. If not, the table is being queried.
    pub fn settle(&mut self, cursor: &mut Cursor) -> bool {
        if cursor.table != self.table {
            *cursor = Cursor { table: self.table, position: 0, place: Place::Past, is_of_table: false };
        }
        let Place::Unchecked { looks } = cursor.place else { return true };
        if cursor.position > self.newest() && self.looks < looks {
            self.order(Question::Last);
            return false;
        }
        let id = cursor.position;
        cursor.position = position::resolve(id, self.newest().max(self.last_number));
        // A position from another table does not count as a gap in this one.
        cursor.is_of_table = cursor.position == id;
        cursor.place = Place::Past;
        true
    }

    /// The next announcement for this listener, or `None` if there is none yet.
    pub fn next(&mut self, cursor: &mut Cursor) -> Result<Option<Rc<Announcement>>, FellBehind> {
        loop {
            if !self.settle(cursor) {
                return Ok(None);
            }
            let number = match cursor.place {
                // Unreachable: the cursor has just been settled.
                Place::Unchecked { .. } => return Ok(None),
                Place::Past if cursor.position >= self.from => {
                    cursor.place = Place::At(self.first_after(cursor.position));
                    continue;
                }
                Place::Past => {
                    let Some(piece) = self.past(cursor.position) else { return Ok(None) };
                    let News::Models { up_to, lost, .. } = &piece.news else { return Ok(None) };
                    self.count_gap(cursor, *lost);
                    cursor.position = *up_to;
                    return Ok(Some(piece));
                }
                Place::At(number) => number,
            };
            let index = number.checked_sub(self.first).ok_or(FellBehind)?;
            let Some(announcement) = self.kept.get(index as usize) else { return Ok(None) };
            cursor.place = Place::At(number + 1);
            let announcement = Rc::clone(announcement);
            let News::Models { after, models, up_to, lost } = &announcement.news else {
                return Ok(Some(announcement));
            };
            let known = cursor.position;
            cursor.position = known.max(*up_to);
            if *up_to <= known {
                continue;
            }
            if known <= *after {
                self.count_gap(cursor, *lost);
                return Ok(Some(announcement));
            }
            // The listener already has the first of these models, because its page was rendered in between.
            let models: Vec<Model> = models.iter().filter(|model| model.id > known).cloned().collect();
            let lost = Lost::between(known, &models);
            self.count_gap(cursor, lost);
            let news = News::Models { after: known, models, up_to: *up_to, lost };
            return Ok(Some(Announcement::new(news)));
        }
    }

    /// Counts a gap of this listener, unless its position came from another table.
    fn count_gap(&self, cursor: &mut Cursor, lost: Option<Lost>) {
        let is_of_table = mem::replace(&mut cursor.is_of_table, true);
        if is_of_table && lost.is_some() {
            self.database.count_gap();
        }
    }

    /// Whether this listener's next announcement is no longer kept.
    pub fn has_lost(&self, cursor: &Cursor) -> bool {
        cursor.table == self.table && matches!(cursor.place, Place::At(next) if next < self.first)
    }

    /// The number of the first announcement with a model after this one, or of the next new announcement.
    fn first_after(&self, position: i64) -> u64 {
        let place = self.kept.iter().position(|it| it.last().is_some_and(|last| last > position));
        self.first + place.unwrap_or(self.kept.len()) as u64
    }

    /// The models that the table has after this one, or `None` if they are being read.
    fn past(&mut self, position: i64) -> Option<Rc<Announcement>> {
        let is_it =
            |it: &&Rc<Announcement>| matches!(&it.news, News::Models { after, .. } if *after == position);
        let piece = self.past.iter().find(is_it).map(Rc::clone);
        if piece.is_none() {
            self.order(Question::After(position));
        }
        piece
    }

    /// Sends a question to the table reader, unless one has just failed.
    fn order(&mut self, question: Question) {
        if self.failed_at.is_none_or(|at| at.elapsed() >= self.ask_again_after) {
            self.reader.order(question);
        }
    }

    /// Processes the answers that have arrived. If there are many, the rest is left for the next turn.
    fn take_answers(&mut self) -> bool {
        for taken in 0..=ANSWERS_A_TURN {
            if taken == ANSWERS_A_TURN {
                (self.notify)();
                break;
            }
            let Some(answer) = self.reader.take() else { return taken > 0 };
            self.failed_at = matches!(answer, TableAnswer::Failed(_)).then(Instant::now);
            match answer {
                // These models were read before the ids restarted.
                TableAnswer::Models { table, .. } if table != self.table => {}
                TableAnswer::Models { after, models, up_to, .. } if after == self.position => {
                    // If `models` is empty, all of them have been deleted again.
                    self.position = up_to;
                    if !models.is_empty() {
                        let lost = Lost::between(after, &models);
                        self.announce(News::Models { after, models, up_to, lost });
                    }
                }
                // This answer does not advance any listener: the ids are just being restarted.
                TableAnswer::Models { after, up_to, .. } if up_to <= after => {}
                TableAnswer::Models { after, models, up_to, .. } => {
                    let lost = Lost::between(after, &models);
                    if self.past.len() == PAST_PIECES {
                        self.past.pop_front();
                    }
                    self.past.push_back(Announcement::new(News::Models { after, models, up_to, lost }));
                }
                TableAnswer::Last { number } => {
                    self.looks += 1;
                    self.last_number = number;
                }
                TableAnswer::Failed(_) => {}
            }
        }
        true
    }

    fn announce(&mut self, news: News) {
        let announcement = Announcement::new(news);
        self.kept_bytes += announcement.bytes();
        self.kept.push_back(announcement);
    }

    /// Drops all kept announcements, when the last listener has left or all listeners restart from the table.
    fn begin_with_the_table(&mut self, newest: i64) {
        self.first += self.kept.len() as u64;
        self.kept.clear();
        self.past.clear();
        (self.position, self.from) = (newest, newest);
    }

    /// Drops the oldest announcements beyond the limit. All bytes are counted again, since shapes may have
    /// been made after the last count.
    fn forget(&mut self) {
        self.kept_bytes = self.kept.iter().map(|it| it.bytes()).sum();
        // The newest announcement is always kept, for listeners that are up to date.
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
            self.last_number = 0;
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
pub(crate) mod tests;
