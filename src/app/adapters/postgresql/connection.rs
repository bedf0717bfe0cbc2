//! A connection on which every wait has a deadline.
//!
//! It is tokio-postgres on a single-threaded runtime that the calling thread drives. No thread is started, except
//! by tokio to look up a host name. The `postgres` crate works in the same way, but its queries cannot have a
//! deadline: if the server is stopped, it waits forever.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, channel};
use tokio::time::timeout;
use tokio_postgres::error::Severity;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row};

use super::super::Failure;
use super::errors::not_connected;

/// How often an interruptible call checks for an interrupt.
const SLICE: Duration = Duration::from_millis(50);
/// The capacity of the queue of notifications, and of the queue of warnings. Further ones are dropped; a notification
/// is only a hint.
const WAITING: usize = 1_024;

/// The deadline of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimit<'a> {
    began: Instant,
    at_most: Duration,
    interrupted: Option<&'a Receiver<Infallible>>,
}

impl<'a> CallLimit<'a> {
    /// The limit of a call that begins now. The call ends early once the channel is disconnected.
    pub fn new(at_most: Duration, interrupted: Option<&'a Receiver<Infallible>>) -> CallLimit<'a> {
        CallLimit { began: Instant::now(), at_most, interrupted }
    }

    /// The limit of a part of this call that begins now and takes at most this time.
    pub fn part(&self, at_most: Duration) -> CallLimit<'a> {
        let left = self.at_most.saturating_sub(self.began.elapsed());
        CallLimit { began: Instant::now(), at_most: at_most.min(left), interrupted: self.interrupted }
    }

    /// The limit of one of `count` parts of equal length of the time that is left. It begins now.
    pub fn share(&self, count: usize) -> CallLimit<'a> {
        let left = self.at_most.saturating_sub(self.began.elapsed());
        self.part(left / u32::try_from(count.max(1)).unwrap_or(u32::MAX))
    }

    /// How long a statement of this call waits for the lock of the numbers. The server must give up before the client
    /// does, or the statement would be carried out later.
    pub fn lock_wait(&self) -> Duration {
        let left = self.at_most.saturating_sub(self.began.elapsed());
        (left / 5).saturating_mul(4)
    }

    /// Returns the time until the next check, or an error if the call must end now.
    fn slice(&self) -> Result<Duration, Failure> {
        let left = self.at_most.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err(Failure::TimedOut(self.at_most));
        }
        match self.interrupted.map(Receiver::try_recv) {
            Some(Err(TryRecvError::Disconnected)) => Err(Failure::Interrupted),
            Some(_) => Ok(left.min(SLICE)),
            None => Ok(left),
        }
    }

    async fn bound<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let mut future = pin!(future);
        loop {
            if let Ok(done) = timeout(self.slice()?, &mut future).await {
                return Ok(done);
            }
        }
    }
}

/// A setting of PostgreSQL in milliseconds. To PostgreSQL, 0 means no limit.
pub(super) fn in_ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// A notification from the server.
#[derive(Debug)]
pub(super) struct PgNotification {
    pub channel: String,
    pub payload: String,
}

/// The reason why a wait for notifications ended.
#[derive(Debug)]
pub(super) enum Heard {
    Notification(PgNotification),
    /// A message that this process wants to send.
    Order(String),
    Nothing,
}

/// The connection.
#[derive(Debug)]
pub(super) struct PgConnection {
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    client: Client,
    notifications: mpsc::Receiver<PgNotification>,
    warnings: mpsc::Receiver<String>,
}

impl PgConnection {
    /// Connects. The limit includes the lookup of a host name.
    pub fn open(config: &Config, limit: &CallLimit<'_>) -> Result<PgConnection, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Lost(error.into()))?;
        let connected = match runtime.block_on(limit.bound(config.connect(NoTls))) {
            Ok(connected) => connected.map_err(not_connected),
            Err(Failure::TimedOut(after)) => {
                let after = after.as_secs_f64();
                let why = format!(
                    "no connection within {after:.1} s: it does not answer, or the host name cannot be looked up"
                );
                Err(Failure::Lost(why.into()))
            }
            Err(failure) => Err(failure),
        };
        let (client, mut connection) = match connected {
            Ok(both) => both,
            Err(failure) => {
                // Dropping the runtime would wait for a lookup in progress.
                runtime.shutdown_background();
                return Err(failure);
            }
        };
        let (notify, notifications) = channel(WAITING);
        let (warn, warnings) = channel(WAITING);
        // This task runs only while the owner waits in one of the calls below.
        runtime.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                // If a queue is full, the message is dropped. The receivers live as long as the runtime.
                let _ = match message {
                    AsyncMessage::Notification(it) => {
                        let (channel, payload) = (it.channel().to_owned(), it.payload().to_owned());
                        notify.try_send(PgNotification { channel, payload }).is_ok()
                    }
                    // The plain form of the severity is in the language of the server.
                    AsyncMessage::Notice(it) if it.parsed_severity() == Some(Severity::Warning) => {
                        warn.try_send(it.message().to_owned()).is_ok()
                    }
                    _ => true,
                };
            }
        });
        Ok(PgConnection { runtime: Some(runtime), client, notifications, warnings })
    }

    /// Runs one unprepared query in one round trip, so that it works through PgBouncer in transaction mode. After
    /// [`Failure::TimedOut`] and [`Failure::Interrupted`] the connection must be dropped, because the answer may still
    /// arrive. The statement itself may still be executed: no cancel request is sent.
    pub fn query(
        &mut self,
        sql: &str,
        bound: &[(&(dyn ToSql + Sync), Type)],
        limit: &CallLimit<'_>,
    ) -> Result<Vec<Row>, Failure> {
        while self.warnings.try_recv().is_ok() {}
        let answer = self.client.query_typed(sql, bound);
        Ok(block_on(&self.runtime, limit.bound(answer))??)
    }

    /// Runs several statements without parameters.
    pub fn execute(&mut self, sql: &str, limit: &CallLimit<'_>) -> Result<(), Failure> {
        let done = self.client.batch_execute(sql);
        Ok(block_on(&self.runtime, limit.bound(done))??)
    }

    /// Waits for a notification, or for a message to send.
    pub fn listen(
        &mut self,
        at_most: Duration,
        orders: &mut mpsc::Receiver<String>,
    ) -> Result<Heard, Failure> {
        let notifications = &mut self.notifications;
        let heard = poll_fn(|cx| match notifications.poll_recv(cx) {
            Poll::Ready(Some(it)) => Poll::Ready(Ok(Heard::Notification(it))),
            Poll::Ready(None) => Poll::Ready(Err(Failure::Lost("the connection was closed".into()))),
            // The sending end belongs to the adapter, which may be gone.
            Poll::Pending => match orders.poll_recv(cx) {
                Poll::Ready(Some(order)) => Poll::Ready(Ok(Heard::Order(order))),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        });
        block_on(&self.runtime, async { timeout(at_most, heard).await.unwrap_or(Ok(Heard::Nothing)) })
    }

    /// Takes a notification that has arrived, if there is one. Does not block.
    pub fn take_notification(&mut self) -> Option<PgNotification> {
        self.notifications.try_recv().ok()
    }

    /// Takes a warning that arrived with the last query, if there is one.
    pub fn take_warning(&mut self) -> Option<String> {
        self.warnings.try_recv().ok()
    }

    /// Whether the connection is known to be closed.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the server has closed the connection while it was idle. Blocks for `turn`; below 1 ms the answer is
    /// not reliable.
    pub fn was_closed_while_idle(&self, turn: Duration) -> bool {
        block_on(&self.runtime, async {
            // This future never completes, so the timeout always expires.
            let _ = timeout(turn, std::future::pending::<()>()).await;
        });
        self.client.is_closed()
    }
}

fn block_on<T>(runtime: &Option<Runtime>, what: impl Future<Output = T>) -> T {
    runtime.as_ref().unwrap_or_else(|| unreachable!("only `drop` takes the runtime")).block_on(what)
}

impl Drop for PgConnection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_up_the_lock_before_the_client_gives_up_the_call() {
        let limit = |since: u64, at_most: u64| CallLimit {
            began: Instant::now().checked_sub(Duration::from_secs(since)).unwrap(),
            at_most: Duration::from_secs(at_most),
            interrupted: None,
        };
        let lock_wait_ms = |limit: CallLimit<'_>| in_ms(limit.lock_wait());
        assert!((3_990..=4_000).contains(&lock_wait_ms(limit(0, 5))));
        // Connecting took most of the time.
        let rest = limit(40, 50).part(Duration::from_secs(50));
        assert!((7_000..=8_000).contains(&lock_wait_ms(rest)));
        assert_eq!(lock_wait_ms(limit(6, 5)), 1);
        assert_eq!(lock_wait_ms(limit(0, u64::MAX)), i32::MAX);
    }
}
