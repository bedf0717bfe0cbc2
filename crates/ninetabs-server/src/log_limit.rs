//! Limits the log messages that a client can cause.
//!
//! A client can repeat a request as often as it likes, and a log with a line for each would fill the disk.
//! Every message that a request, a connection or a foreign row can cause is therefore logged through its own
//! [`Limited`]: the first lines of a time window are written, the rest are counted, and the count is written
//! when the window is over.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use crate::threads;

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(10);
/// The maximum number of lines of one message in a window, for warnings and errors, and for other levels.
const WARNINGS: u32 = 10;
const OTHERS: u32 = 100;

/// Logs a message at this level. Each use of the macro has its own limit.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($message:tt)+) => {{
        static MESSAGE: $crate::log_limit::Limited = $crate::log_limit::Limited::new(::log::Level::$level);
        MESSAGE.log(format_args!($($message)+));
    }};
}
#[doc(inline)]
pub use limited;

/// A message at one place in the code.
pub struct Limited {
    level: Level,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
    /// Whether a thread waits for the window's end, to write the count.
    is_awaited: bool,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum LogVerdict {
    /// Write it, with the number of lines that were left out before.
    Write { left_out: u64 },
    /// Count it. If it is the first one, a thread has to wait for the window's end.
    Count { is_first: bool },
}

impl Limited {
    /// Creates the limit for a message of this level.
    pub const fn new(level: Level) -> Limited {
        Limited { level, window: Mutex::new(None) }
    }

    /// Writes the message or counts it. Blocks no longer than the log does.
    pub fn log(&'static self, message: fmt::Arguments<'_>) {
        if !log::log_enabled!(self.level) {
            return;
        }
        match self.judge(Instant::now()) {
            LogVerdict::Write { left_out: 0 } => log::log!(self.level, "{message}"),
            LogVerdict::Write { left_out } => {
                log::log!(self.level, "{message} ({left_out} more like this were left out)");
            }
            LogVerdict::Count { is_first: false } => {}
            LogVerdict::Count { is_first: true } => self.await_the_end(&message),
        }
    }

    fn most(&self) -> u32 {
        if self.level <= Level::Warn { WARNINGS } else { OTHERS }
    }

    fn judge(&self, now: Instant) -> LogVerdict {
        let mut window = self.window();
        let is_over = |it: &Window| now.saturating_duration_since(it.began) >= WINDOW;
        match window.as_mut() {
            Some(it) if !is_over(it) && it.written == self.most() => {
                it.left_out += 1;
                let is_first = !it.is_awaited;
                it.is_awaited = true;
                LogVerdict::Count { is_first }
            }
            Some(it) if !is_over(it) => {
                it.written += 1;
                LogVerdict::Write { left_out: 0 }
            }
            _ => {
                let left_out = window.as_ref().map_or(0, |it| it.left_out);
                // A thread that waits for the old window's end will then find nothing to write.
                *window = Some(Window { began: now, written: 1, left_out: 0, is_awaited: false });
                LogVerdict::Write { left_out }
            }
        }
    }

    /// How many lines were left out in a window that is over. Removes the window, so the number is reported
    /// once.
    fn take_count(&self, now: Instant) -> u64 {
        let mut window = self.window();
        window
            .take_if(|it| now.saturating_duration_since(it.began) >= WINDOW)
            .map_or(0, |window| window.left_out)
    }

    /// Waits for the window's end on another thread. A flood may end within the window, and then no later
    /// line would report the count.
    fn await_the_end(&'static self, message: &fmt::Arguments<'_>) {
        let message = message.to_string();
        let count = move || {
            thread::sleep(WINDOW + Duration::from_millis(1));
            let left_out = self.take_count(Instant::now());
            if left_out > 0 {
                log::log!(self.level, "{left_out} more messages were left out like: {message}");
            }
        };
        // Without a thread, the next line reports the count.
        let _ = threads::spawn("log limit", count);
    }

    fn window(&self) -> MutexGuard<'_, Option<Window>> {
        // Every change under this lock is one assignment, so the data is consistent even after a panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_a_few_lines_per_window_and_the_rest_is_counted() {
        for (level, most) in [(Level::Warn, WARNINGS), (Level::Error, WARNINGS), (Level::Info, OTHERS)] {
            let limited = Limited::new(level);
            let began = Instant::now();
            let (mut written, mut counted, mut told) = (0, 0, 0);
            for n in 0..5_000 {
                match limited.judge(began + Duration::from_millis(n)) {
                    LogVerdict::Write { left_out } => {
                        written += 1;
                        told += left_out;
                    }
                    LogVerdict::Count { is_first } => {
                        assert_eq!(is_first, counted == 0, "one thread waits for the end");
                        counted += 1;
                    }
                }
            }
            assert_eq!(written, most);
            assert_eq!((counted, told), (5_000 - u64::from(most), 0));
            assert_eq!(limited.take_count(began + WINDOW / 2), 0, "its window is not over");
            let later = began + WINDOW;
            assert_eq!(limited.judge(later), LogVerdict::Write { left_out: counted });
            assert_eq!(limited.take_count(later + WINDOW), 0, "it was reported before");
            assert_eq!(limited.judge(later + WINDOW), LogVerdict::Write { left_out: 0 });
        }
    }

    #[test]
    fn a_flood_that_has_ended_is_reported_at_the_end_of_its_window() {
        let limited = Limited::new(Level::Warn);
        let began = Instant::now();
        for _ in 0..WARNINGS + 7 {
            limited.judge(began);
        }
        assert_eq!(limited.take_count(began + WINDOW), 7);
        assert_eq!(limited.take_count(began + WINDOW), 0);
    }
}
