//! Runs the thread pool on a system that refuses to start threads.
//!
//! The source of the pool is unchanged. It is compiled again with threads that cannot be started.

mod timeline {
    pub use ninetabs_server::timeline::*;
}

mod threads {
    pub use ninetabs_server::threads::*;
}

mod sync {
    pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

    pub mod thread {
        use std::io;

        pub struct Builder;

        impl Builder {
            pub fn new() -> Builder {
                Builder
            }

            pub fn name(self, _name: String) -> Builder {
                self
            }

            pub fn spawn(self, _run: impl FnOnce()) -> io::Result<()> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

#[path = "../src/log_limit.rs"]
mod log_limit;
#[allow(dead_code, reason = "the whole pool is compiled, but these tests use only a part of it")]
#[path = "../src/pool_state.rs"]
mod pool_state;
#[allow(dead_code, reason = "as above")]
#[path = "../src/thread_pool.rs"]
mod thread_pool;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use thread_pool::{PoolOptions, PoolStartError, Processor, Shutdown, ThreadPool, Work};
use timeline::{Subject, Timeline};

#[derive(Debug, Clone, PartialEq)]
struct Page(u64);

impl Work for Page {
    fn subject(&self) -> Subject {
        Subject { connection: self.0, port: 1, request: self.0 }
    }
}

fn pool(min: usize) -> Result<ThreadPool<Page>, PoolStartError> {
    let options = PoolOptions { name: "refused".to_owned(), min, max: 2, max_io: 0 };
    let process = |_: Page, _: &Processor<Page>| unreachable!("every thread was refused");
    ThreadPool::start(options, Arc::new(Timeline::default()), process)
}

#[test]
fn a_pool_that_gets_none_of_its_first_threads_does_not_start() {
    assert!(matches!(pool(1), Err(PoolStartError::Thread(_))));
}

#[test]
fn a_shutdown_gives_back_the_work_for_which_no_thread_could_be_started() {
    let pool = pool(0).unwrap();
    for number in 1..=3 {
        pool.push(Page(number)).unwrap();
    }
    assert_eq!(pool.glance().backlog, 3);
    let unserved = RefCell::new(Vec::new());
    let ended = pool.shutdown_with(None, Duration::ZERO, |page| unserved.borrow_mut().push(page));
    assert_eq!((ended, unserved.into_inner()), (Shutdown::Forced, vec![Page(1), Page(2), Page(3)]));
}
