//! DevTools over a pipe: the messages that drive Chromium.
//!
//! With `--remote-debugging-pipe`, Chromium reads messages from descriptor 3 and writes messages to descriptor 4.
//! Each message ends with a zero byte. No other process can use the pipe, whereas a port on loopback is open to
//! every user of the machine.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use serde_json::{Value, json};
use thiserror::Error;

use crate::lab::interrupt::{Interrupt, Interrupted};
use ninetabs_server::threads;

/// How often a wait for an answer checks for an interrupt.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The maximum size of a message. A longer one ends the connection to the browser.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("the browser has ended")]
    Ended,
    #[error("no answer to {method} within {within:?}")]
    TimedOut { method: &'static str, within: Duration },
    #[error("interrupted")]
    Interrupted,
    #[error("{method} was refused: {why}")]
    Refused { method: &'static str, why: String },
}

/// The pipe to a browser.
#[derive(Debug)]
pub(super) struct DevTools(Mutex<Pipe>);

#[derive(Debug)]
struct Pipe {
    orders: ChildStdin,
    answers: Receiver<Value>,
    last_id: u64,
}

impl DevTools {
    /// The child's standard input and output are the pipe.
    pub fn of(child: &mut Child) -> io::Result<DevTools> {
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the pipe to the browser is missing"));
        };
        let (tell, answers) = unbounded();
        threads::spawn("devtools", move || {
            let mut output = BufReader::new(output);
            while let Some(message) = next(&mut output) {
                // Messages without an id are events, which are not used here.
                if message.get("id").is_some() && tell.send(message).is_err() {
                    break;
                }
            }
        })?;
        Ok(DevTools(Mutex::new(Pipe { orders, answers, last_id: 0 })))
    }

    /// Sends a call. Blocks until the answer or an interrupt arrives, for at most `within`.
    pub fn call(
        &self,
        method: &'static str,
        params: &Value,
        within: Duration,
        interrupt: &Interrupt,
    ) -> Result<Value, CallError> {
        let end = Instant::now() + within;
        // A panic leaves at most one unread answer, which the next call skips.
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.last_id += 1;
        let id = pipe.last_id;
        let mut order = json!({ "id": id, "method": method, "params": params }).to_string().into_bytes();
        order.push(0);
        pipe.orders.write_all(&order).map_err(|_| CallError::Ended)?;
        loop {
            match pipe.answers.recv_timeout(LOOK_EVERY) {
                Ok(answer) if answer["id"] == id => return result(method, answer),
                // The answer to a call that was abandoned.
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(CallError::Ended),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    return Err(CallError::TimedOut { method, within });
                }
                Err(RecvTimeoutError::Timeout) => {
                    interrupt.sleep(Duration::ZERO).map_err(|Interrupted| CallError::Interrupted)?;
                }
            }
        }
    }
}

fn result(method: &'static str, mut answer: Value) -> Result<Value, CallError> {
    match answer.get("error") {
        Some(error) => Err(CallError::Refused { method, why: error["message"].to_string() }),
        None => Ok(answer["result"].take()),
    }
}

/// Reads the next message. Returns `None` at the end of the pipe, and for a message that is too long or is not JSON.
fn next(output: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut message = Vec::new();
    io::Read::take(&mut *output, MOST_BYTES).read_until(0, &mut message).ok()?;
    if message.pop() != Some(0) {
        return None;
    }
    serde_json::from_slice(&message).ok()
}
