//! Stops the parts of `serve` in order.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};
use ninetabs_server::thread_pool::Shutdown;
use ninetabs_server::threads;

use super::Running;
use crate::control::Stop;

/// The time that the control server's last responses get after everything else has ended. One of them may be the
/// response to the order to stop.
const CONTROL_GRACE: Duration = Duration::from_millis(500);

/// The minimum time that the producer gets to end, however long the other parts of a stop took.
const PRODUCER_GRACE: Duration = Duration::from_millis(50);

/// The same minimum for the thread that reads the database for listeners.
const READER_GRACE: Duration = Duration::from_millis(50);

impl Running {
    /// Stops accepting, ends every stream, waits at most this long for running requests, and closes the database.
    /// Returns `AtOnce` if an order to halt arrived in the meantime.
    pub fn stop(&mut self, force_shutdown_after: Duration) -> Stop {
        // At most a day, so that the sum does not overflow.
        let deadline = Instant::now() + force_shutdown_after.min(Duration::from_secs(86_400));
        self.app.stop_accepting();
        self.beside.end("this server is stopping");
        let told = self.live.stop();
        if told > 0 {
            log::info!("ended {told} streams; their clients reconnect");
        }
        self.broadcaster.stop(deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        match self.shut_the_app_down(left) {
            None => return Stop::AtOnce,
            Some(Shutdown::Abandoned { threads }) => {
                log::warn!(
                    "abandoned threads that had not finished after {force_shutdown_after:?}: {threads}"
                );
            }
            Some(Shutdown::Drained | Shutdown::Forced) => {}
        }
        let actions = self.app.glance().action_threads.map_or(0, |actions| actions.running);
        if actions > 0 {
            log::warn!("abandoned actions that were still running after {force_shutdown_after:?}: {actions}");
        }
        if self.await_goodbyes() == Stop::AtOnce {
            return Stop::AtOnce;
        }
        self.control.shutdown(CONTROL_GRACE);
        if let Some(producer) = self.producer.take() {
            producer.stop(deadline.saturating_duration_since(Instant::now()).max(PRODUCER_GRACE));
        }
        drop(self.outside_writers.take());
        let left = deadline.saturating_duration_since(Instant::now());
        self.broadcaster.await_reader(left.max(READER_GRACE));
        self.database.close();
        // Last, since the other parts still record events.
        drop(self.trace.take());
        Stop::Gracefully
    }

    /// Blocks until every listener has been sent its last message, or until an order to halt arrives.
    fn await_goodbyes(&self) -> Stop {
        loop {
            select! {
                recv(self.broadcaster.ended()) -> _ => return Stop::Gracefully,
                recv(self.stops) -> stop => match stop {
                    Ok(Stop::Gracefully) => {}
                    Ok(Stop::AtOnce) => return Stop::AtOnce,
                    Err(_) => {
                        // The channel is disconnected when all last messages have been sent.
                        let _ = self.broadcaster.ended().recv();
                        return Stop::Gracefully;
                    }
                },
            }
        }
    }

    /// Returns `None` if an order to halt arrived first.
    fn shut_the_app_down(&self, timeout: Duration) -> Option<Shutdown> {
        let (tell, ended) = bounded(1);
        let app = Arc::clone(&self.app);
        let waiter = threads::spawn("stop", move || {
            // After a halt, the receiver is gone.
            let _ = tell.send(app.shutdown(timeout));
        });
        if let Err(error) = waiter {
            log::warn!("{error}; a halt will have to wait for the end of the stop");
            return Some(self.app.shutdown(timeout));
        }
        loop {
            select! {
                recv(ended) -> shutdown => return Some(shutdown.unwrap_or(Shutdown::Forced)),
                recv(self.stops) -> stop => match stop {
                    Ok(Stop::Gracefully) => {}
                    Ok(Stop::AtOnce) => return None,
                    Err(_) => return Some(ended.recv().unwrap_or(Shutdown::Forced)),
                },
            }
        }
    }

    /// Ends without notifying the clients. Only the control server completes its responses, since one of them may be
    /// the response to the order to halt.
    pub fn halt(mut self) {
        self.beside.end("this server is stopping");
        self.control.shutdown(CONTROL_GRACE);
        drop(self.trace.take());
        // The producer is not stopped, since its stop would wait for the database.
        mem::forget(self.producer.take());
    }
}
