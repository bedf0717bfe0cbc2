//! Work outside the pool, so that the pool's threads stay free for the next order.
//!
//! Two things could hold a pool thread for long: an order that itself waits (for connections to the database
//! or to the app), and a large answer whose client does not read. Both leave the pool with their connection,
//! and run on a thread of their own: [`Aside::run`]. Their number is bounded, and so is the time that a
//! client may take to read its answer.
//!
//! If the maximum number of answers is under way, the answer that began first is cut off, since its client has had the
//! most time. Orders are not cut off: a further one is refused with 503.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use ninetabs_server::request::Version;
use ninetabs_server::response::{Detached, ResponseBody, last_head};
use ninetabs_server::threads;
use ninetabs_server::{Cutter, Request, Response};

/// How long an answer may wait for its client to read, in total.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// A pool thread writes an answer of at most this many bytes itself: the kernel accepts it immediately.
pub(super) const SMALL: usize = 4 * 1024;

/// How many bytes of an answer are collected before they are written.
const BUFFER: usize = 64 * 1024;

/// A body that is written while it is encoded, so that memory never holds all of it. It is encoded
/// twice, first to count its bytes, and must be the same each time.
pub(super) type Make = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + Send>;

/// An answer of any size.
pub(super) enum AsideAnswer {
    Whole(Response),
    /// A response without a body, for its status and header fields, and the body to send with them.
    Made(Response, Make),
}

/// What happens when the maximum is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    CutTheFirst,
    Refuse,
}

/// The connections of one kind that have left the pool.
pub(super) struct Aside {
    name: &'static str,
    most: usize,
    when_full: WhenFull,
    places: Arc<Mutex<Places>>,
}

#[derive(Default)]
struct Places {
    /// In the order in which they began. The function that cuts one off does nothing before the connection is
    /// handed over.
    taken: BTreeMap<u64, Cutter>,
    begun: u64,
}

/// One reserved slot, which is released when this is dropped.
struct AsidePlace {
    places: Arc<Mutex<Places>>,
    number: u64,
}

impl Drop for AsidePlace {
    fn drop(&mut self) {
        lock(&self.places).taken.remove(&self.number);
    }
}

impl Aside {
    /// Allows at most this many at the same time. Their threads have this name.
    pub fn new(name: &'static str, most: usize, when_full: WhenFull) -> Self {
        Aside { name, most, when_full, places: Arc::default() }
    }

    /// Takes the connection of this request out of the pool, and answers it with `work` on a thread of its
    /// own. Does not block.
    pub fn run(&self, request: &Request, work: impl FnOnce() -> AsideAnswer + Send + 'static) -> Response {
        let Some(place) = self.reserve() else {
            let text =
                format!("{} such orders are being carried out; try again when one has ended", self.most);
            return Response::line(StatusCode::SERVICE_UNAVAILABLE, &text).with_header("retry-after", "1");
        };
        let (name, version) = (self.name, request.version());
        Response::detach_without_head(move |detached| {
            match lock(&place.places).taken.get_mut(&place.number) {
                Some(cutter) => *cutter = detached.cutter(),
                // It was cut off in the meantime.
                None => return detached.abort(),
            }
            let started = threads::spawn(name, move || {
                let _place = place;
                let done = send(&detached, version, &work());
                if let Err(error) = done {
                    log::debug!("{name}: an answer was not read: {error}");
                    detached.abort();
                }
            });
            if let Err(error) = started {
                log::error!("{error}");
            }
        })
    }

    /// Reserves a slot under one lock, so that concurrent requests cannot exceed the limit in total.
    fn reserve(&self) -> Option<AsidePlace> {
        let mut places = lock(&self.places);
        while places.taken.len() >= self.most {
            if self.when_full == WhenFull::Refuse {
                return None;
            }
            // The write of its thread fails, and the thread ends.
            let (_, first) = places.taken.pop_first()?;
            first.cut();
        }
        places.begun += 1;
        let number = places.begun;
        places.taken.insert(number, Cutter::default());
        Some(AsidePlace { places: Arc::clone(&self.places), number })
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    // Every change under this lock is one insertion or removal, complete even after a panic.
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a complete answer. The connection closes when it is dropped.
fn send(detached: &Detached, version: Version, answer: &AsideAnswer) -> io::Result<()> {
    let mut client = PatientWriter { detached, left: READ_WITHIN };
    match answer {
        AsideAnswer::Whole(response) => {
            let ResponseBody::Whole(body) = response.body() else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let mut bytes = last_head(version, response, body.len());
            bytes.extend_from_slice(body);
            client.write_all(&bytes)
        }
        AsideAnswer::Made(response, make) => {
            let mut counter = Counter { bytes: 0, detached };
            make(&mut counter)?;
            let mut buffered = BufWriter::with_capacity(BUFFER, client);
            buffered.write_all(&last_head(version, response, counter.bytes))?;
            make(&mut buffered)?;
            buffered.flush()
        }
    }
}

/// Writes to a client, and waits for it for a limited time in total.
struct PatientWriter<'a> {
    detached: &'a Detached,
    left: Duration,
}

impl Write for PatientWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (waited, written) = self.detached.write_all(bytes, self.left);
        self.left = self.left.saturating_sub(waited);
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts the bytes of an answer, until its client is cut off.
struct Counter<'a> {
    bytes: usize,
    detached: &'a Detached,
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.detached.is_cut() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_reserved_in_one_step_and_returned() {
        let orders = Aside::new("test", 2, WhenFull::Refuse);
        let first = orders.reserve().unwrap();
        let _second = orders.reserve().unwrap();
        assert!(orders.reserve().is_none());
        drop(first);
        assert!(orders.reserve().is_some());
    }

    #[test]
    fn one_answer_too_many_cuts_off_the_oldest() {
        let answers = Aside::new("test", 2, WhenFull::CutTheFirst);
        let places: Vec<AsidePlace> = (0..5).map(|_| answers.reserve().unwrap()).collect();
        let taken: Vec<u64> = lock(&answers.places).taken.keys().copied().collect();
        assert_eq!(taken, [4, 5]);
        drop(places);
        assert!(lock(&answers.places).taken.is_empty());
    }
}
