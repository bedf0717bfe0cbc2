//! A queue of lines for a descriptor that may be blocked: standard error for the log and for the notes of `tab`,
//! standard output for the messages of `serve`.
//!
//! A separate thread writes the lines. [`Outlet::queue`] never waits: while the reader of a pipe reads nothing, lines
//! beyond `MOST_LINES` are dropped and counted. The count is written once lines can be written again. A stream, a
//! stop or the reaper therefore never waits for a paused terminal. [`Outlet::flush`] waits for at most the given
//! time.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ninetabs_server::threads::{self, SpawnError};

/// The maximum number of queued lines.
const MOST_LINES: usize = 1024;
/// The maximum number of bytes of a line; a longer line is truncated.
const MOST_BYTES: usize = 16 * 1024;

enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The queue.
#[derive(Clone)]
pub struct Outlet {
    messages: Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Starts the thread. `failed` is called at the first write that fails.
    pub fn start(
        name: &str,
        to: impl Write + Send + 'static,
        failed: impl Fn(&io::Error) + Send + 'static,
    ) -> Result<Outlet, SpawnError> {
        let (messages, queued) = bounded(MOST_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let outlet = Outlet { messages, dropped: Arc::clone(&dropped) };
        threads::spawn(name, move || write(to, &queued, &dropped, failed))?;
        Ok(outlet)
    }

    /// Queues a line. Does not block.
    pub fn queue(&self, bytes: &[u8]) {
        let mut line = bytes[..bytes.len().min(MOST_BYTES)].to_vec();
        if bytes.len() > MOST_BYTES {
            line.extend_from_slice("…\n".as_bytes());
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.messages.try_send(Message::Line(line))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits at most this long until all queued lines are written, and returns whether they are.
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let (tell, flushed) = bounded(1);
        self.messages.send_deadline(Message::Flush(tell), deadline).is_ok()
            && flushed.recv_deadline(deadline).is_ok()
    }
}

/// Each write is one line, which is queued.
impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut to: impl Write, queued: &Receiver<Message>, dropped: &AtomicU64, failed: impl Fn(&io::Error)) {
    let mut has_failed = false;
    let mut lose = |lines: u64, error: &io::Error| {
        dropped.fetch_add(lines, Ordering::Relaxed);
        if !has_failed && error.kind() != ErrorKind::BrokenPipe {
            has_failed = true;
            failed(error);
        }
    };
    for message in queued {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("[{lost} lines were dropped because they could not be written]\n");
            if let Err(error) = to.write_all(note.as_bytes()) {
                lose(lost, &error);
            }
        }
        match message {
            Message::Line(bytes) => {
                if let Err(error) = to.write_all(&bytes).and_then(|()| to.flush()) {
                    lose(1, &error);
                }
            }
            // The waiting thread may have given up.
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_that_a_full_pipe_does_not_accept_are_dropped_and_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::start("test", writer, |_| {}).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let queued = MOST_LINES * 3;
        // A pipe holds 64 KiB and the queue 1,024 lines, so this loop would hang if `queue` could block.
        (0..queued).for_each(|_| outlet.queue(&line));
        assert!(
            !outlet.flush(Duration::from_millis(50)),
            "the lines were written although nothing reads the pipe"
        );

        // Once the pipe is read, the count of the dropped lines precedes the next line.
        let reading = thread::spawn(move || {
            let (mut read, mut lost) = (0, 0);
            for line in BufReader::new(reader).lines().map(Result::unwrap) {
                match line.strip_prefix('[').and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok()) {
                    Some(count) => lost += count,
                    None => read += 1,
                }
            }
            (read, lost)
        });
        assert!(outlet.flush(LONG));
        drop(outlet);
        let (read, lost) = reading.join().unwrap();
        assert!(lost > 0 && read + lost == queued, "{read} read, {lost} lost of {queued}");
    }

    #[test]
    fn a_long_line_is_truncated_and_a_failed_write_is_reported_once() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::start("test", writer, |_| {}).unwrap();
        outlet.queue(&vec![b'x'; MOST_BYTES + 1]);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert_eq!(line.chars().count(), MOST_BYTES + 2);

        let (tell, told) = crossbeam_channel::unbounded();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let outlet = Outlet::start("test", full, move |error| tell.send(error.to_string()).unwrap()).unwrap();
        (0..3).for_each(|_| outlet.queue(b"x\n"));
        assert!(outlet.flush(LONG));
        drop(outlet);
        assert_eq!(told.iter().count(), 1);
    }
}
