//! Runs tests that spend most of their time waiting. They run in parallel, regardless of the number of libtest's
//! threads.
//!
//! The first test of a batch to run starts the bodies of all tests of the batch that the command line selects,
//! unless [`Batch::begin`] has already done so. To see where a body panicked, run its test alone.
//!
use std::any::Any;
use std::collections::HashMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex};
use std::thread::JoinHandle;

/// A test: its full path and its body.
pub type Body = (&'static str, fn());

/// Test bodies, each of which runs on its own thread.
pub struct Batch {
    bodies: &'static [&'static [Body]],
    /// The names of the bodies that take longest. They start first; otherwise the batch would end with only these
    /// still running.
    longest: &'static [&'static str],
    /// Maximum number of bodies that run at the same time.
    width: usize,
    /// Maximum number of attempts per body.
    attempts: usize,
    started: Mutex<Option<HashMap<&'static str, JoinHandle<()>>>>,
    running: Mutex<usize>,
    ended: Condvar,
}

impl Batch {
    pub const fn new(
        width: usize,
        attempts: usize,
        longest: &'static [&'static str],
        bodies: &'static [&'static [Body]],
    ) -> Batch {
        Batch {
            bodies,
            longest,
            width,
            attempts,
            started: Mutex::new(None),
            running: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    /// Starts the bodies before the first test of the batch runs. Does nothing if they have already been started.
    pub fn begin(&'static self) {
        self.started.lock().unwrap().get_or_insert_with(|| self.start());
    }

    /// Waits until this body has run, or runs it if it was not started. Panics if the body panicked.
    pub fn run(&'static self, path: &str) {
        let thread = {
            let mut started = self.started.lock().unwrap();
            started.get_or_insert_with(|| self.start()).remove(path)
        };
        match thread.map(JoinHandle::join) {
            Some(Ok(())) => {}
            Some(Err(panic)) => panic!("{}", message(&*panic)),
            None => self.in_turn(self.body(path)),
        }
    }

    fn body(&self, path: &str) -> fn() {
        let found = self.bodies.iter().copied().flatten().find(|(name, _)| *name == path);
        found.unwrap_or_else(|| panic!("no body {path}")).1
    }

    fn start(&'static self) -> HashMap<&'static str, JoinHandle<()>> {
        let selection = Selection::of(std::env::args().skip(1));
        let bodies = self.bodies.iter().copied().flatten();
        let mut selected: Vec<&Body> = bodies.filter(|(name, _)| selection.has(name)).collect();
        selected.sort_by_key(|(path, _)| !self.longest.iter().any(|name| path.ends_with(name)));
        selected.into_iter().map(|(name, body)| (*name, std::thread::spawn(|| self.in_turn(*body)))).collect()
    }

    fn in_turn(&self, body: fn()) {
        let running = self.running.lock().unwrap();
        *self.ended.wait_while(running, |running| *running >= self.width).unwrap() += 1;
        let _turn = Turn(self);
        for attempt in 1.. {
            match catch_unwind(body) {
                Ok(()) => return,
                Err(panic) if attempt < self.attempts => {
                    eprintln!("trying again after: {}", message(&*panic));
                }
                Err(panic) => resume_unwind(panic),
            }
        }
    }
}

/// The turn of a running body. Dropping it lets another body run.
struct Turn<'a>(&'a Batch);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap() -= 1;
        self.0.ended.notify_one();
    }
}

/// The tests that libtest's arguments select. A body that this overlooks runs on its test's own thread.
struct Selection {
    wanted: Vec<String>,
    skipped: Vec<String>,
}

impl Selection {
    fn of(mut args: impl Iterator<Item = String>) -> Selection {
        let mut selection = Selection { wanted: Vec::new(), skipped: Vec::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--skip" => selection.skipped.extend(args.next()),
                // None of the bodies belongs to an ignored test.
                "--ignored" => selection.skipped.push(String::new()),
                "--test-threads" | "--logfile" | "--color" | "--format" | "--shuffle-seed" | "-Z" => {
                    args.next();
                }
                flag if flag.starts_with('-') => {}
                _ => selection.wanted.push(arg),
            }
        }
        selection
    }

    fn has(&self, name: &str) -> bool {
        let is_wanted = self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part));
        is_wanted && !self.skipped.iter().any(|part| name.contains(part))
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the body panicked")
}

/// Turns each of these functions into a test, and lists the functions as `BODIES` for the batch, which runs them in
/// parallel.
macro_rules! batch {
    ($batch:path: $($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        pub const BODIES: &[crate::common::batch::Body] =
            &[$($(#[$attribute])* (concat!(module_path!(), "::at_once::", stringify!($name)), $name as fn())),*];

        mod at_once {
            $(
                $(#[$attribute])*
                #[test]
                fn $name() {
                    $batch.run(concat!(module_path!(), "::", stringify!($name)));
                }
            )*
        }
    };
}

pub(crate) use batch;
