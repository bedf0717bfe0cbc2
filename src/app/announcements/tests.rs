use std::thread;

use super::super::adapters::scripted::{Call, Numbers, Scripted};
use super::super::adapters::sqlite3::{self, Keep};
use super::super::database::LeaseFor;
use super::super::table_reader::Models;
use super::*;
use ninetabs_server::services::Services;

mod properties;

struct Listener {
    cursor: Cursor,
    got: Vec<i64>,
}

impl Listener {
    fn at(cursor: Cursor) -> Listener {
        Listener { cursor, got: Vec::new() }
    }

    /// Takes one announcement, after waiting for the table if necessary, or reconnects if it fell behind.
    /// Returns false if there was neither.
    fn take(&mut self, feed: &mut Announcements) -> bool {
        while !self.take_now(feed) {
            if !feed.reader.is_reading() {
                return false;
            }
            feed.settle_down(1);
        }
        true
    }

    /// Does the same as `take`, without waiting for the table.
    fn take_now(&mut self, feed: &mut Announcements) -> bool {
        match feed.next(&mut self.cursor) {
            Ok(Some(it)) => {
                if let News::Models { models, .. } = &it.news {
                    self.got.extend(models.iter().map(|model| model.id));
                }
                true
            }
            Ok(None) => false,
            Err(FellBehind) => {
                assert!(
                    matches!(self.cursor.place, Place::At(_)),
                    "a listener fell behind while it read from the table"
                );
                self.cursor = feed.after(self.cursor.position());
                true
            }
        }
    }
}

fn feed(most_bytes: usize) -> (tempfile::TempDir, Arc<Database>, Arc<Sent>, Announcements) {
    let folder = tempfile::tempdir().unwrap();
    let opened = sqlite3::open(&folder.path().join("models.sqlite3"), Keep::Forever).unwrap();
    let database = Database::open(opened, 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
    let sent = Arc::<Sent>::default();
    let feed = reading(&database, Arc::clone(&sent), most_bytes);
    (folder, database, sent, feed)
}

/// Announcements that read the table on a separate session.
fn reading(database: &Arc<Database>, sent: Arc<Sent>, most_bytes: usize) -> Announcements {
    let models = Models { session: database.connect().unwrap(), database: Arc::clone(database) };
    let reader = TableReader::start(models, &Services::default(), || {}).unwrap();
    Announcements::new(reader, || {}, Arc::clone(database), sent, most_bytes)
}

fn scripted(numbers: Numbers) -> (Scripted, Arc<Database>) {
    let scripted = Scripted::new(numbers);
    let database = Database::open(scripted.open(), 2, Duration::from_secs(60), LeaseFor::Query).unwrap();
    (scripted, database)
}

/// Announcements whose database never answers.
pub(crate) fn blocked_feed() -> Announcements {
    let (scripted, database) = scripted(Numbers::AtCommit);
    let feed = reading(&database, Arc::default(), 1 << 20);
    scripted.last_script().be_late();
    feed
}

/// Announces these models.
pub(crate) fn announced(models: Vec<Model>) -> Rc<Announcement> {
    let up_to = models.last().map_or(0, |model| model.id);
    Announcement::new(News::Models { after: 0, models, up_to, lost: None })
}

impl Announcement {
    /// The names of the shapes that it keeps.
    pub(crate) fn shapes(&self) -> Vec<&'static str> {
        self.shapes.borrow().iter().map(|(name, _)| *name).collect()
    }
}

impl Announcements {
    /// Refreshes the announcements until all questions are answered.
    fn settle_down(&mut self, peers: usize) {
        self.refresh(peers);
        while self.reader.is_reading() {
            thread::sleep(Duration::from_micros(20));
            self.refresh(peers);
        }
    }
}

#[test]
fn every_listener_gets_every_model_once_however_slow_it_is_and_however_often_it_is_cut_off() {
    for seed in 0..40 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (_folder, database, sent, mut feed) = feed(dice.usize(500..4_000));
        let mut theirs = database.connect().unwrap();
        let mut listeners: Vec<Listener> = Vec::new();
        for _ in 0..300 {
            match dice.u8(0..10) {
                0..3 => {
                    for _ in 0..dice.usize(1..8) {
                        let id = theirs.create("a model", Some(1_000_000)).unwrap().id;
                        // Otherwise the server learns of the commit only later, as if another program had
                        // made it.
                        if dice.bool() {
                            database.committed(id);
                        }
                    }
                }
                3 => sent.push("said", "x", 1 << 20),
                4 if listeners.len() < 5 => {
                    listeners.push(Listener::at(feed.after(0)));
                }
                5 if !listeners.is_empty() => {
                    // The listener is cut off. It reconnects with the last model that it has, which may
                    // be newer than the last announced one.
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
        let newest = theirs.last_id().unwrap();
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
fn listeners_that_reconnect_together_share_one_query() {
    let (_folder, database, _, mut feed) = feed(1 << 20);
    let mut theirs = database.connect().unwrap();
    for _ in 0..120 {
        database.committed(theirs.create("a model", Some(1_000)).unwrap().id);
    }
    feed.refresh(0);
    let before = database.queries();
    let mut listeners: Vec<_> = (0..1_000).map(|_| Listener::at(feed.after(0))).collect();
    // All of them request each piece before it has been read.
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
    let made = |shape: &'static str| told.shaped(shape, |_| shape.as_bytes().to_vec());
    assert!(Rc::ptr_eq(&made("x"), &made("x")));
    assert_eq!(&*made("y"), b"y");
    assert_eq!(told.shapes(), ["x", "y"]);
}

#[test]
fn a_shape_that_panics_is_made_once_and_is_empty_for_all_listeners() {
    let announcement = Announcement::new(News::Event { name: "a".to_owned(), data: "b".to_owned() });
    let mut made = 0;
    for _ in 0..1_000 {
        let bytes = announcement.shaped("x", |_| {
            made += 1;
            panic!("panic of this test")
        });
        assert!(bytes.is_empty());
    }
    assert_eq!(made, 1);
    assert_eq!(&*announcement.shaped("y", |_| b"y".to_vec()), b"y");
}

#[test]
fn while_the_database_is_blocked_each_piece_is_ordered_once_and_events_are_delivered() {
    let (scripted, database) = scripted(Numbers::AtCommit);
    for _ in 0..5 {
        database.committed(scripted.insert());
    }
    let sent = Arc::<Sent>::default();
    let mut feed = reading(&database, Arc::clone(&sent), 1 << 20);
    let script = scripted.last_script();
    script.be_late();
    let mut listeners: Vec<Listener> =
        (0..100).map(|n| Listener::at(feed.after([0, 3, 5, 99][n % 4]))).collect();
    for _ in 0..50 {
        feed.refresh(listeners.len());
        for listener in &mut listeners {
            assert_eq!(feed.next(&mut listener.cursor).map(|it| it.is_some()), Ok(false));
        }
    }
    // Events do not need the table, so they are not delayed.
    sent.push("said", "x", 1 << 20);
    assert!(feed.refresh(listeners.len()));
    assert!(matches!(feed.next(&mut listeners[2].cursor), Ok(Some(_))));
    script.release(100);
    feed.settle_down(listeners.len());
    for listener in &mut listeners {
        while listener.take(&mut feed) {}
    }
    let wanted = |n: usize| -> &[i64] { [&[1, 2, 3, 4, 5][..], &[4, 5], &[], &[1, 2, 3, 4, 5]][n % 4] };
    assert!(listeners.iter().enumerate().all(|(n, it)| it.got == wanted(n)));
    let mut calls = script.calls();
    calls.sort_unstable();
    assert_eq!(calls, [Call::Next(0), Call::Next(3), Call::LastId, Call::LastNumber]);
}

#[test]
fn a_client_that_has_an_assigned_number_without_a_visible_model_waits_and_a_greater_one_restarts() {
    let (scripted, database) = scripted(Numbers::AtCommit);
    database.committed(scripted.insert());
    // Number 2 is assigned and never becomes visible.
    scripted.begin();
    scripted.roll_back(0);
    let mut feed = reading(&database, Arc::default(), 1 << 20);
    let mut waits = Listener::at(feed.after(2));
    let mut restarts = Listener::at(feed.after(3));
    feed.settle_down(2);
    while waits.take(&mut feed) || restarts.take(&mut feed) {}
    assert_eq!((&waits.got[..], &restarts.got[..]), (&[][..], &[1][..]));
    database.committed(scripted.insert());
    feed.settle_down(2);
    while waits.take(&mut feed) || restarts.take(&mut feed) {}
    assert_eq!((waits.got, restarts.got), (vec![3], vec![1, 3]));
}

#[test]
fn a_gap_after_a_position_is_reported_and_counted_once_per_listener() {
    let (_folder, database, _, mut feed) = feed(1 << 20);
    let mut theirs = database.connect().unwrap();
    for _ in 0..80 {
        database.committed(theirs.create("a model", Some(60)).unwrap().id);
    }
    feed.settle_down(0);
    for (position, first) in [(5, Some(6)), (20, None), (0, Some(1)), (80, None)] {
        let before = database.gaps();
        let mut listener = Listener::at(feed.after(position));
        feed.settle_down(1);
        let _ = feed.next(&mut listener.cursor);
        feed.settle_down(1);
        match feed.next(&mut listener.cursor) {
            Ok(Some(piece)) => {
                let News::Models { lost, .. } = &piece.news else { panic!("{position}: no models") };
                assert_eq!(*lost, first.map(|first| Lost { first, last: 20 }), "{position}");
            }
            next => assert!(position == 80 && matches!(next, Ok(None)), "{position}: nothing arrived"),
        }
        while listener.take(&mut feed) {}
        assert_eq!(database.gaps() - before, u64::from(first.is_some()), "{position}");
    }
}
