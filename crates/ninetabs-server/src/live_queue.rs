//! The queue between an action on its own thread and the pool thread that writes its answer.
//!
//! Models the buffer of ActionController::Live. The action puts each of its writes into a queue of ten chunks, and
//! waits while the queue is full. The pool thread takes the chunks out and writes them to the client. The first chunk
//! commits the response.
//!
//! - If a write to the client fails, the pool thread aborts the queue and becomes free. The action gets the error from
//!   its *next* write. A client that has closed is therefore noticed by the pool thread at the second write after the
//!   close, and by the action at the third. An action that does not write again never notices.
//! - With HTTP/1.0, Rails sends an ordinary response: the chunks written up to the commit, and a clean end. The action
//!   is not notified, and all its further writes succeed. Rails keeps the further chunks in memory; here they are
//!   dropped.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select_biased};

use crate::answer_writer::{AnswerWriter, WriteError, WriteFailure};
use crate::framing::AnswerEnd;

/// The maximum number of chunks in the queue: `ActionController::Live::Buffer.queue_size`.
pub(crate) const QUEUE_CHUNKS: usize = 10;

/// Returns the two ends of a new queue. `writes` counts the writes of the action.
pub(crate) fn live_queue(writes: &Arc<AtomicU64>) -> (ActionSide, PoolSide) {
    let (put, take) = bounded(QUEUE_CHUNKS);
    let shared = Arc::<SharedQueue>::default();
    let action = ActionSide {
        chunks: put,
        shared: Arc::clone(&shared),
        writes: Arc::clone(writes),
        last_words: Vec::new(),
    };
    (action, PoolSide { chunks: take, shared })
}

#[derive(Default)]
struct SharedQueue {
    /// Why the pool thread has left. Set before the pool thread drops its end of the queue.
    left: OnceLock<PoolThreadLeft>,
    /// How the action has ended. Set before the action drops its end of the queue, unless it panicked.
    ended: OnceLock<ActionEnded>,
}

/// Why a pool thread ended its answer while the action was still running.
#[derive(Debug, Clone)]
enum PoolThreadLeft {
    /// A write to the client failed.
    Aborted(WriteFailure),
    /// The answer to an HTTP/1.0 client is complete.
    Answered,
}

#[derive(Debug)]
struct ActionEnded {
    end: AnswerEnd,
    last_words: Vec<u8>,
}

/// The action's end of the queue.
pub(crate) struct ActionSide {
    chunks: Sender<Vec<u8>>,
    shared: Arc<SharedQueue>,
    writes: Arc<AtomicU64>,
    last_words: Vec<u8>,
}

impl ActionSide {
    /// Puts one chunk into the queue.
    ///
    /// Blocks while the queue is full, until the pool thread takes a chunk or leaves, or `interrupted` is disconnected.
    /// Fails if the pool thread aborts the queue before or during this call. Success does not mean that the chunk will
    /// reach the client.
    pub fn write(&self, chunk: &[u8], interrupted: &Receiver<Infallible>) -> Result<(), WriteError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        // Check before putting the chunk into the queue, not after. Rails does it the other way around, but there the
        // global lock prevents the pool thread from failing in between.
        if self.shared.left.get().is_some() {
            return self.after_the_pool_thread_left(number);
        }
        select_biased! {
            send(self.chunks, chunk.to_vec()) -> sent => match sent {
                Ok(()) => Ok(()),
                Err(_) => self.after_the_pool_thread_left(number),
            },
            recv(interrupted) -> _ => Err(WriteError { number, cause: WriteFailure::Cut }),
        }
    }

    fn after_the_pool_thread_left(&self, number: u64) -> Result<(), WriteError> {
        match self.shared.left.get() {
            Some(PoolThreadLeft::Answered) => Ok(()),
            Some(PoolThreadLeft::Aborted(cause)) => Err(WriteError { number, cause: cause.clone() }),
            // The pool thread panicked.
            None => Err(WriteError { number, cause: WriteFailure::Closed }),
        }
    }

    /// The error that a write after the end of the stream returns.
    pub fn over(&self) -> WriteError {
        let number = self.writes.load(Ordering::Relaxed) + 1;
        let aborted = self.after_the_pool_thread_left(number).err();
        aborted.unwrap_or(WriteError { number, cause: WriteFailure::Closed })
    }

    /// Sets the last bytes to send if the answer ends cleanly.
    pub fn say_last(&mut self, words: &[u8]) {
        self.last_words = words.to_vec();
    }

    /// Notes how the action ended. The pool thread reads it after this end of the queue has been dropped.
    pub fn end(&mut self, end: AnswerEnd) {
        let last_words = std::mem::take(&mut self.last_words);
        // Only the first call has an effect.
        let _ = self.shared.ended.set(ActionEnded { end, last_words });
    }
}

/// The pool thread's end of the queue.
pub(crate) struct PoolSide {
    chunks: Receiver<Vec<u8>>,
    shared: Arc<SharedQueue>,
}

/// How a pool thread's work on a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The action has ended, and its answer ends in this way.
    Ended(AnswerEnd),
    /// The answer has ended in this way, and the action continues.
    Left(AnswerEnd),
}

impl PoolSide {
    /// Writes the chunks that the action puts into the queue, until the action ends or a write fails. `committed` is
    /// called before the first chunk is written. Blocks while it waits for the next chunk, and in each write.
    pub fn drain(self, connection: &mut AnswerWriter, committed: impl FnOnce()) -> Drained {
        let Ok(first) = self.chunks.recv() else { return self.ended(connection) };
        committed();
        for chunk in std::iter::once(first).chain(self.chunks.iter()) {
            if let Err(error) = connection.write(&chunk) {
                let _ = self.shared.left.set(PoolThreadLeft::Aborted(error.cause));
                return Drained::Left(AnswerEnd::Cut);
            }
        }
        self.ended(connection)
    }

    /// Writes the chunks that are in the queue at the commit, and then leaves. Blocks until the first chunk arrives,
    /// and in each write. Models the answer to an HTTP/1.0 client.
    pub fn take_committed(self, connection: &mut AnswerWriter, committed: impl FnOnce()) -> Drained {
        let Ok(first) = self.chunks.recv() else { return self.ended(connection) };
        committed();
        let mut chunks = vec![first];
        let mut has_ended = false;
        while chunks.len() < QUEUE_CHUNKS {
            match self.chunks.try_recv() {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => {
                    has_ended = error == TryRecvError::Disconnected;
                    break;
                }
            }
        }
        if !has_ended {
            // Set before the client receives anything. Whatever happens to the answer after this point does not affect
            // the action.
            let _ = self.shared.left.set(PoolThreadLeft::Answered);
        }
        let written = chunks.iter().try_for_each(|chunk| connection.write(chunk));
        match written {
            _ if !has_ended => Drained::Left(written.map_or(AnswerEnd::Cut, |()| AnswerEnd::Clean)),
            Ok(()) => self.ended(connection),
            Err(_) => Drained::Ended(AnswerEnd::Cut),
        }
    }

    fn ended(&self, connection: &mut AnswerWriter) -> Drained {
        match self.shared.ended.get() {
            Some(ActionEnded { end, last_words }) => {
                connection.say_last(last_words);
                Drained::Ended(*end)
            }
            // The action panicked.
            None => Drained::Ended(AnswerEnd::Cut),
        }
    }
}
