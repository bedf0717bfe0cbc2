//! Measures the hand-off to a parked thread: this pool against a plain channel.
//!
//! One thread pushes a job; one of eight parked threads wakes and reports when it began. Between two pushes
//! the pusher sleeps long enough for all threads to park again, so that each figure is the time of a wake-up
//! and not the time spent in a queue. The other side is eight threads on one `crossbeam_channel`. It has no
//! todo, limits or timeline, so the difference is the cost of the pool's rules. Both pools exist for the
//! whole run, and rounds alternate between them, so that other load on the machine affects both alike. A
//! second pair of columns has the times of a burst of 64 pushes, until the last job has begun.

use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ninetabs_server::thread_pool::{PoolOptions, ThreadPool, Work};
use ninetabs_server::timeline::{Subject, Timeline};

const THREADS: usize = 8;
const ROUNDS: usize = 40;
const HAND_OFFS: usize = 50;
const BURST: usize = 64;
/// Long enough for a thread to park again, even on a busy machine.
const REST: Duration = Duration::from_micros(300);

/// A job, which sends the moment at which it began to this channel.
struct Job(Sender<Instant>);

impl Work for Job {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: 1 }
    }
}

impl Job {
    fn run(self) {
        // The receiver lives until the last answer has arrived.
        let _ = self.0.send(black_box(Instant::now()));
    }
}

/// The eight threads on one channel. They end when the sender is dropped.
struct Channel {
    todo: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Channel {
    fn start() -> Channel {
        let (todo, jobs): (_, Receiver<Job>) = unbounded();
        let threads = (0..THREADS).map(|_| {
            let jobs = jobs.clone();
            thread::spawn(move || jobs.iter().for_each(Job::run))
        });
        Channel { todo: Some(todo), threads: threads.collect() }
    }

    fn push(&self, job: Job) {
        if let Some(todo) = &self.todo {
            todo.send(job).expect("its threads are running");
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.todo = None;
        for thread in self.threads.drain(..) {
            thread.join().expect("a job does not panic");
        }
    }
}

/// The times of one side, one entry per measurement.
#[derive(Default)]
struct Taken {
    hand_off: Vec<Duration>,
    push: Vec<Duration>,
    burst: Vec<Duration>,
}

impl Taken {
    fn round(&mut self, push: impl Fn(Job)) {
        let (began, begins) = bounded(BURST);
        for _ in 0..HAND_OFFS {
            thread::sleep(REST);
            let pushed = Instant::now();
            push(Job(began.clone()));
            let returned = Instant::now();
            let at = begins.recv().expect("the job reports");
            self.push.push(returned - pushed);
            self.hand_off.push(at.saturating_duration_since(pushed));
        }
        thread::sleep(REST);
        let pushed = Instant::now();
        for _ in 0..BURST {
            push(Job(began.clone()));
        }
        let last = begins.iter().take(BURST).max().expect("the jobs report");
        self.burst.push(last.saturating_duration_since(pushed));
    }
}

fn main() {
    let options = PoolOptions { name: "bench".to_owned(), min: THREADS, max: THREADS, max_io: 0 };
    let pool = ThreadPool::start(options, Arc::new(Timeline::default()), |job: Job, _| job.run())
        .expect("the system has eight threads");
    let channel = Channel::start();
    let (mut ours, mut theirs) = (Taken::default(), Taken::default());

    // The first round does not count: caches are cold, and the threads have never run.
    Taken::default().round(|job| ours_push(&pool, job));
    Taken::default().round(|job| channel.push(job));
    // Without `--bench`, which `cargo bench` passes, this only checks that the program runs.
    let rounds = if env::args().any(|it| it == "--bench") { ROUNDS } else { 2 };
    for round in 0..rounds {
        // The side that goes first alternates as well.
        if round % 2 == 0 {
            ours.round(|job| ours_push(&pool, job));
            theirs.round(|job| channel.push(job));
        } else {
            theirs.round(|job| channel.push(job));
            ours.round(|job| ours_push(&pool, job));
        }
    }

    println!("{THREADS} threads, µs                      this pool          crossbeam-channel    ratio");
    println!("                                 median      p99      median      p99   median    p99");
    line("hand-off to a parked thread", ours.hand_off, theirs.hand_off);
    line("the push itself", ours.push, theirs.push);
    line("64 at once, until the last began", ours.burst, theirs.burst);
}

fn ours_push(pool: &ThreadPool<Job>, job: Job) {
    pool.push(job).expect("the pool is not shutting down");
}

fn line(what: &str, mut ours: Vec<Duration>, mut theirs: Vec<Duration>) {
    let [ours, theirs] = [&mut ours, &mut theirs].map(|taken| {
        taken.sort_unstable();
        [50, 99].map(|percent| taken[(taken.len() - 1) * percent / 100].as_secs_f64() * 1e6)
    });
    let [median, p99] = [ours[0] / theirs[0], ours[1] / theirs[1]];
    println!(
        "{what:32} {:7.1}  {:7.1}     {:7.1}  {:7.1}   {median:6.2} {p99:6.2}",
        ours[0], ours[1], theirs[0], theirs[1]
    );
}
