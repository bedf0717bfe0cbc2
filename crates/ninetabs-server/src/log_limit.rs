//! Limits the log messages that a client can cause.
//!
//! A client can repeat a request without limit, and a log line for each would fill the disk. Every message that a
//! request, a connection or a foreign row can cause is therefore logged through its own [`Limited`]. The first lines of
//! a time window are written, further lines are only counted, and the count is written at the end of the window.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use crate::threads;

/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(10);
/// The maximum number of lines per message and window, for warnings and errors. `OTHERS` is for all other levels.
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

/// The limit on the message that one place in the code logs.
pub struct Limited {
    level: Level,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
    /// Whether a thread is waiting for the end of the window to write the count.
    is_awaited: bool,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum LogVerdict {
    /// Write it, with the number of lines that were left out before it.
    Write { left_out: u64 },
    /// Count it. If it is the first counted line, start a thread that waits for the end of the window.
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
                log::log!(self.level, "{message} ({left_out} similar messages were left out)");
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
                // A thread that is waiting for the end of the old window will find nothing to write.
                *window = Some(Window { began: now, written: 1, left_out: 0, is_awaited: false });
                LogVerdict::Write { left_out }
            }
        }
    }

    /// Returns how many lines were left out in a window that is over. Removes the window, so that the number is
    /// reported only once.
    fn take_count(&self, now: Instant) -> u64 {
        let mut window = self.window();
        window
            .take_if(|it| now.saturating_duration_since(it.began) >= WINDOW)
            .map_or(0, |window| window.left_out)
    }

    /// Waits for the end of the window on another thread. Without that thread, the count would never be reported if the
    /// flood ended within the window.
    fn await_the_end(&'static self, message: &fmt::Arguments<'_>) {
        let message = message.to_string();
        let count = move || {
            thread::sleep(WINDOW + Duration::from_millis(1));
            let left_out = self.take_count(Instant::now());
            if left_out > 0 {
                log::log!(self.level, "{left_out} more messages like this one were left out: {message}");
            }
        };
        // If the thread cannot be started, the next line reports the count.
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
    fn a_flood_is_limited_to_a_few_lines_per_window_and_the_remaining_lines_are_counted() {
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
                        assert_eq!(is_first, counted == 0, "only the first counted line starts a thread");
                        counted += 1;
                    }
                }
            }
            assert_eq!(written, most);
            assert_eq!((counted, told), (5_000 - u64::from(most), 0));
            assert_eq!(
                limited.take_count(began + WINDOW / 2),
                0,
                "the count was taken before the window was over"
            );
            let later = began + WINDOW;
            assert_eq!(limited.judge(later), LogVerdict::Write { left_out: counted });
            assert_eq!(limited.take_count(later + WINDOW), 0, "the count was reported twice");
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
