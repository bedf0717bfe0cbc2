//! Black-box HTTP cases as data: bytes to send in steps, and the expected answers.
//!
//! A case sends its steps in order, with the waits in them, and reads the answers that it expects. It then checks
//! whether the connection was kept alive (a further `GET /up` is answered, and nothing else arrives), closed by the
//! server's decision, or closed by a timeout. A write that fails because the server has already closed the
//! connection does not fail the case. Each case blocks for at most its own time limit.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::answers::{Answer, Halt, Wire};
use super::case_bytes::base64;

/// After this long without data, the test concludes that none will arrive.
const QUIET: Duration = Duration::from_millis(120);
/// A close within this time counts as the server's decision, a later one as a timeout.
const PROMPT: Duration = Duration::from_millis(2_500);
/// The time limit of a case that does not set one.
const LIMIT_MS: u64 = 6_000;

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    pub why: String,
    pub send: Vec<Step>,
    pub expect: Expect,
    #[serde(default = "limit")]
    timeout_ms: u64,
    /// Whether the case is stricter than Puma: a good server passes it, but Puma itself does not.
    #[serde(default)]
    pub stricter: bool,
    #[serde(default)]
    pub reason: String,
    /// The result of Puma 5: `"pass"`, or what was observed.
    pub puma5: Value,
}

fn limit() -> u64 {
    LIMIT_MS
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    text: String,
    bytes_b64: Option<String>,
    repeat: Option<usize>,
    then_wait_ms: u64,
    await_responses: usize,
    await_interim: bool,
    shutdown_write: bool,
    reset: bool,
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        let once = self.bytes_b64.as_deref().map_or_else(|| self.text.clone().into_bytes(), base64);
        once.repeat(self.repeat.unwrap_or(1))
    }
}

/// What a case expects: one answer or several, and the state of the connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    status: Option<Value>,
    headers: BTreeMap<String, String>,
    absent_headers: Vec<String>,
    responses: Option<Vec<Expect>>,
    interim: Vec<u16>,
    no_response: bool,
    connection: Option<Connection>,
    not_before_ms: Option<u128>,
    within_ms: Option<u128>,
    any_of: Option<Vec<Expect>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Connection {
    KeepAlive,
    /// The answer announces the close, and the connection ends.
    Close,
    /// The connection ends, whether or not the answer announces it.
    ClosedByServer,
}

impl Expect {
    fn options(&self) -> Vec<&Expect> {
        self.any_of.as_ref().map_or_else(|| vec![self], |all| all.iter().collect())
    }

    fn answers(&self) -> Vec<&Expect> {
        match &self.responses {
            Some(all) => all.iter().collect(),
            None if self.no_response => Vec::new(),
            None => vec![self],
        }
    }
}

/// The result of a case.
#[derive(Debug, Default)]
pub struct Seen {
    answers: Vec<Answer>,
    interim: Vec<u16>,
    broken: Option<String>,
    is_kept: bool,
    not_kept: String,
    /// When the connection ended: the time since it was opened, and since the last write.
    ended: Option<(Duration, Duration)>,
}

impl Seen {
    /// A summary: the statuses, and the fate of the connection.
    pub fn summary(&self) -> String {
        let statuses = self.interim.iter().copied().chain(self.answers.iter().map(|it| it.status));
        let mut words: Vec<_> = statuses.map(|status| status.to_string()).collect();
        if self.answers.is_empty() {
            words.push("nothing".into());
        }
        let end = match self.ended {
            _ if self.is_kept => "kept".into(),
            Some((after, _)) if after.as_millis() > 900 => {
                format!("closed after {:.1} s", after.as_secs_f64())
            }
            Some(_) => "closed".into(),
            None => "open".to_owned(),
        };
        format!("{}, {end}", words.join(" "))
    }
}

/// Runs a case. Returns what was observed, and what is wrong with it.
pub fn play(case: &Case, to: SocketAddr) -> (Seen, Result<(), String>) {
    let mut run = Run {
        wire: Wire::open(to, Duration::from_millis(case.timeout_ms)),
        methods: methods(&case.send),
        seen: Seen::default(),
    };
    match run.play(case) {
        Ok(()) | Err(Halt::TimeUp) => {}
        Err(Halt::Ended) if run.wire.buffer.is_empty() => {}
        Err(Halt::Ended) => run.seen.broken = Some("the connection ended in the middle of an answer".into()),
        Err(Halt::Broken(why)) => run.seen.broken = Some(why),
    }
    let wire = run.wire;
    run.seen.ended = wire.ended.map(|at| (at - wire.opened, at.saturating_duration_since(wire.last_write)));
    let is_reset = case.send.iter().any(|step| step.reset);
    let verdict = if is_reset { Ok(()) } else { check(&case.expect, &run.seen) };
    (run.seen, verdict)
}

/// Whether a request on a new connection is answered with 200.
pub fn is_alive(server: SocketAddr) -> bool {
    let mut wire = Wire::open(server, Duration::from_secs(30));
    wire.write(b"GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    wire.answer("GET").is_ok_and(|answer| answer.status == 200)
}

struct Run {
    wire: Wire,
    /// The methods of the sent requests, in order. They are needed because an answer to HEAD has no body to read.
    methods: Vec<String>,
    seen: Seen,
}

impl Run {
    fn play(&mut self, case: &Case) -> Result<(), Halt> {
        for step in &case.send {
            self.wire.write(&step.bytes());
            while self.seen.answers.len() < step.await_responses {
                self.read_one()?;
            }
            while step.await_interim && self.seen.interim.is_empty() {
                self.read_one()?;
            }
            if step.reset {
                let socket = socket2::SockRef::from(&self.wire.stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return Ok(());
            }
            self.rest(Duration::from_millis(step.then_wait_ms));
            if step.shutdown_write {
                // This fails if the server has already closed the connection.
                let _ = self.wire.stream.shutdown(Shutdown::Write);
            }
        }
        let options = case.expect.options();
        let most = options.iter().map(|it| it.answers().len()).max().unwrap_or(0);
        while self.seen.answers.len() < most {
            self.read_one()?;
        }
        let wanted: Vec<_> = options.iter().filter_map(|it| it.connection).collect();
        if wanted.contains(&Connection::KeepAlive) && self.wire.ended.is_none() {
            self.check_whether_kept()?;
        }
        if wanted.iter().any(|it| *it != Connection::KeepAlive) && !self.seen.is_kept {
            // Reads to the end of the connection, to find superfluous answers.
            loop {
                self.read_one()?;
            }
        }
        Ok(())
    }

    /// Waits, and reads what arrives in this time.
    fn rest(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if !self.wire.pump(left) && self.wire.ended.is_some() {
                std::thread::sleep(left);
            }
        }
    }

    fn check_whether_kept(&mut self) -> Result<(), Halt> {
        let quiet = Instant::now() + QUIET;
        while self.wire.buffer.is_empty() && self.wire.ended.is_none() && Instant::now() < quiet {
            self.wire.pump(quiet.saturating_duration_since(Instant::now()));
        }
        if !self.wire.buffer.is_empty() {
            self.seen.not_kept = "unrequested bytes arrived".into();
            self.methods.clear();
            return self.read_one();
        }
        if self.wire.ended.is_some() {
            self.seen.not_kept = "it was closed".into();
            return Ok(());
        }
        self.wire.write(b"GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        match self.wire.answer("GET") {
            Ok(answer) => {
                self.wire.pump(Duration::from_millis(30));
                self.seen.is_kept = answer.status == 200 && self.wire.buffer.is_empty();
                self.seen.not_kept = format!("GET /up on it was answered {}", answer.status);
                Ok(())
            }
            Err(Halt::Ended) => {
                self.seen.not_kept = "it was closed at the next request".into();
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn read_one(&mut self) -> Result<(), Halt> {
        let method = self.methods.get(self.seen.answers.len()).map_or("GET", String::as_str);
        let answer = self.wire.answer(method)?;
        match answer.status {
            ..200 => self.seen.interim.push(answer.status),
            _ => self.seen.answers.push(answer),
        }
        Ok(())
    }
}

/// The methods of the requests that begin in these bytes: at the start, and after each empty line.
fn methods(steps: &[Step]) -> Vec<String> {
    let bytes: Vec<u8> = steps.iter().flat_map(Step::bytes).collect();
    let text = String::from_utf8_lossy(&bytes);
    let starts = text.split("\r\n\r\n").filter_map(|part| part.split_once(' '));
    let known = ["HEAD", "GET", "POST", "PUT", "DELETE"];
    starts.map(|(word, _)| word.to_owned()).filter(|word| known.contains(&word.as_str())).collect()
}

fn check(expect: &Expect, seen: &Seen) -> Result<(), String> {
    if let Some(options) = &expect.any_of {
        let wrong: Vec<_> = options.iter().filter_map(|it| check(it, seen).err()).collect();
        return if wrong.len() < options.len() { Ok(()) } else { Err(wrong.join(" | ")) };
    }
    if let Some(why) = &seen.broken {
        return Err(why.clone());
    }
    let wanted = expect.answers();
    if seen.answers.len() != wanted.len() {
        return Err(format!("{} answers, wanted {}", seen.answers.len(), wanted.len()));
    }
    for (number, (wanted, answer)) in (1..).zip(wanted.iter().zip(&seen.answers)) {
        check_answer(wanted, answer).map_err(|why| format!("answer {number}: {why}"))?;
    }
    if expect.interim != seen.interim {
        return Err(format!("interim {:?}, wanted {:?}", seen.interim, expect.interim));
    }
    check_connection(expect, seen)?;
    let ended_ms = seen.ended.map(|(after, _)| after.as_millis());
    if let (Some(least), Some(ended)) = (expect.not_before_ms, ended_ms)
        && ended < least
    {
        return Err(format!("closed after {ended} ms, wanted at least {least}"));
    }
    match expect.within_ms {
        Some(most) if ended_ms.is_none_or(|ended| ended > most) => {
            Err(format!("closed after {ended_ms:?} ms, wanted within {most}"))
        }
        _ => Ok(()),
    }
}

fn check_answer(wanted: &Expect, answer: &Answer) -> Result<(), String> {
    if let Some(status) = &wanted.status
        && !is_status(status, answer.status)
    {
        return Err(format!("status {}, wanted {status}", answer.status));
    }
    for (name, pattern) in &wanted.headers {
        let value = answer.headers.get(&name.to_ascii_lowercase());
        if !value.is_some_and(|value| fits(pattern, value)) {
            return Err(format!("{name}: {value:?}, wanted {pattern}"));
        }
    }
    let unwanted = wanted.absent_headers.iter().find(|name| answer.headers.contains_key(*name));
    unwanted.map_or(Ok(()), |name| Err(format!("{name} must be absent")))
}

fn check_connection(expect: &Expect, seen: &Seen) -> Result<(), String> {
    let Some(wanted) = expect.connection else { return Ok(()) };
    if wanted == Connection::KeepAlive {
        return if seen.is_kept { Ok(()) } else { Err(format!("not kept alive: {}", seen.not_kept)) };
    }
    let Some((_, since_write)) = seen.ended else { return Err("the server did not close".into()) };
    if expect.within_ms.is_none() && since_write > PROMPT {
        return Err(format!(
            "closed only {since_write:.1?} after the last byte sent: because of a timeout, not on purpose"
        ));
    }
    match seen.answers.last() {
        Some(last) if wanted == Connection::Close => {
            let said = last.headers.get("connection").map(|it| it.to_ascii_lowercase()).unwrap_or_default();
            let by_version = last.version == "HTTP/1.0" && !said.contains("keep-alive");
            if said.contains("close") || by_version {
                Ok(())
            } else {
                Err("closed without announcing it".into())
            }
        }
        _ => Ok(()),
    }
}

/// A wanted status is a number, a class (`"4xx"`), or a list of these.
fn is_status(wanted: &Value, status: u16) -> bool {
    match wanted {
        Value::Array(all) => all.iter().any(|it| is_status(it, status)),
        Value::String(class) => status.to_string()[..1] == class[..1],
        number => number.as_u64() == Some(status.into()),
    }
}

/// Whether a value matches one of the few patterns that the cases use.
fn fits(pattern: &str, value: &str) -> bool {
    match pattern {
        r"^\d+$" => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
        "(?i)^close$" => value.eq_ignore_ascii_case("close"),
        other => panic!("unknown pattern in a case: {other}"),
    }
}
