//! `serve --trace`: records the events of the server in a trace file while it runs.
//!
//! A separate thread reads new moments from the timeline and appends them to the file, so that no
//! request waits for a disk. Every piece that is written ends after an event, so a killed server leaves
//! a file that can be opened. A full disk ends the trace, but not the server. If a pipe is full, the
//! thread waits for its reader: without a limit while the server runs, and for at most `END_WITHIN`
//! once it stops.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::files::FileError;
use super::files::output::{Output, PreparedOutput};
use crate::front::AppServer;
use crate::lab::trace::{Encoder, TraceEvent, TraceProcess};
use ninetabs_server::threads::{StopSignal, StoppableThread};
use ninetabs_server::timeline::{self, Timeline};

/// How often the timeline is read. Its ring buffer holds more moments than are recorded in that time.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// If a read returns at least this many new moments, the next read follows without a pause.
const A_LOT: usize = timeline::CAPACITY / 4;
/// How long a full pipe may delay the stop.
const END_WITHIN: Duration = Duration::from_millis(500);

/// A trace that is being written. Dropping this writes the end of the trace, and waits for the
/// disk.
pub struct TraceFile {
    _thread: StoppableThread,
}

impl TraceFile {
    /// Creates the file, which replaces an existing one, and begins to write.
    pub fn start(
        path: &Path,
        prepared: PreparedOutput,
        timeline: Arc<Timeline>,
        server: Arc<AppServer>,
    ) -> Result<TraceFile, FileError> {
        let mut output = Trace::begin(path, prepared)?;
        let mut process = TraceProcess::new(process::id(), "ninetabs serve");
        let begun = output.encoder.encode(&process.drain()).map_err(io::Error::from)?;
        let is_begun = output.begin_at_once(&begun)?;
        let thread = StoppableThread::start("trace", move |stop| {
            output.stop = stop.clone();
            let begin = if is_begun { Ok(()) } else { output.write_piece(&begun) };
            if let Err(error) = begin.and_then(|()| follow(&mut output, &mut process, &timeline, &server)) {
                log::error!("--trace {}: {error}; the trace ends here", output.path.display());
                output.cut();
            }
        });
        Ok(TraceFile { _thread: thread.map_err(io::Error::from)? })
    }
}

fn follow(
    output: &mut Trace,
    process: &mut TraceProcess,
    timeline: &Timeline,
    server: &AppServer,
) -> io::Result<()> {
    let mut last_seq = 0;
    let mut pause = ASK_EVERY;
    loop {
        let is_over = !output.stop.sleep(pause);
        // Nothing else records which queued connections have not been read.
        server.look_at_todo();
        let new = timeline.after(last_seq);
        for moment in &new.moments {
            last_seq = moment.seq;
            process.take(moment);
        }
        if is_over {
            process.end(new.now_us);
            output.write(&process.drain())?;
            let end = output.encoder.end();
            return output.write_bytes(end);
        }
        output.write(&process.drain())?;
        pause = if new.moments.len() < A_LOT { ASK_EVERY } else { Duration::ZERO };
    }
}

struct Trace {
    path: PathBuf,
    output: Output,
    encoder: Encoder,
    /// The length of the file up to the last complete piece.
    whole: u64,
    stop: StopSignal,
    /// When the stop was first noticed while a pipe was full.
    late_since: Option<Instant>,
}

impl Trace {
    fn begin(path: &Path, prepared: PreparedOutput) -> Result<Trace, FileError> {
        let output = prepared.begin()?;
        let (path, encoder) = (path.to_owned(), Encoder::default());
        Ok(Trace { path, output, encoder, whole: 0, stop: StopSignal::never(), late_since: None })
    }

    /// Writes the first piece, and returns whether it was written. A start must not wait for the reader
    /// of a full pipe, and a pipe accepts such a small piece completely or not at all.
    fn begin_at_once(&mut self, piece: &[u8]) -> io::Result<bool> {
        match self.output.write_all(piece, || false) {
            Ok(()) => self.whole = piece.len() as u64,
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn write(&mut self, events: &[TraceEvent]) -> io::Result<()> {
        let piece = self.encoder.encode(events)?;
        self.write_piece(&piece)
    }

    fn write_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        self.write_bytes(piece)?;
        self.whole += piece.len() as u64;
        Ok(())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Trace { output, stop, late_since, .. } = self;
        output.write_all(bytes, || {
            !stop.has_come() || late_since.get_or_insert_with(Instant::now).elapsed() < END_WITHIN
        })
    }

    /// Removes the last piece if it was not written completely.
    fn cut(&self) {
        if let Err(error) = self.output.cut(self.whole) {
            log::warn!("--trace {}: its last line is incomplete: {error}", self.path.display());
        }
    }
}
