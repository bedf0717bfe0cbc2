//! The signals that `ctrlc` does not handle, and their effects on `serve`.
//!
//! | signal | effect |
//! |---|---|
//! | INT, TERM, HUP | stop ([`super::interrupt`]) |
//! | QUIT | halt, like the order `/halt` |
//! | XCPU | stop: at the hard limit of CPU time the kernel would end the process |
//! | USR1, USR2 | a log line: a restart is not available |
//! | XFSZ | none: the write that exceeded the limit fails with EFBIG |
//! | TSTP, CONT, STOP, KILL | unchanged: used for job control, or cannot be blocked |
//! | SEGV, BUS, FPE, ILL, TRAP, SYS, ABRT | unchanged: they report a bug |
//! | all others | none |
//!
//! A signal without effect is blocked, not handled. A handler would interrupt system calls, and a
//! background process that writes to its terminal would receive TTOU repeatedly. The mask is inherited
//! by threads, so it must be set before the first one starts.

use std::io;

use crossbeam_channel::Sender;
use nix::sys::signal::{SigSet, Signal};

use crate::control::Stop;
use ninetabs_server::threads::{self, SpawnError};

/// The signals that keep their usual effect.
const UNTOUCHED: [Signal; 12] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
];

/// In every command, makes a write beyond `ulimit -f` fail with an error instead of ending the
/// process.
pub fn survive_file_size_limit() -> io::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    Ok(set.thread_block()?)
}

/// Blocks all signals except `UNTOUCHED` for this thread, and for the threads that it starts from now
/// on.
pub fn block_all_others() -> io::Result<()> {
    let mut set = SigSet::all();
    UNTOUCHED.into_iter().for_each(|signal| set.remove(signal));
    Ok(set.thread_block()?)
}

/// Starts the thread that receives blocked signals and acts on them.
pub fn listen(orders: Sender<Stop>) -> Result<(), SpawnError> {
    let mut set = SigSet::empty();
    [Signal::SIGQUIT, Signal::SIGXCPU, Signal::SIGUSR1, Signal::SIGUSR2]
        .into_iter()
        .for_each(|signal| set.add(signal));
    threads::spawn("signals", move || {
        loop {
            let order = match set.wait() {
                Ok(Signal::SIGQUIT) => Stop::AtOnce,
                Ok(Signal::SIGXCPU) => Stop::Gracefully,
                Ok(signal) => {
                    log::warn!("{signal}: a restart is not available; the server continues");
                    continue;
                }
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return log::warn!("cannot wait for QUIT, USR1 and USR2 any more: {error}"),
            };
            // One pending order is enough.
            let _ = orders.try_send(order);
        }
    })?;
    Ok(())
}
