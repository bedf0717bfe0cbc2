//! A connection from which answers are read one by one, each exactly to its end. Malformed answers are reported.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Maximum length of a line in an answer's head.
const MAX_LINE_BYTES: usize = 70_000;

#[derive(Debug)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
}

/// Why reading stopped.
pub enum Halt {
    /// The end of the stream, or a reset.
    Ended,
    TimeUp,
    /// The received bytes are not HTTP.
    Broken(String),
}

pub struct Wire {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
    pub opened: Instant,
    deadline: Instant,
    pub last_write: Instant,
    pub ended: Option<Instant>,
}

impl Wire {
    pub fn open(to: SocketAddr, limit: Duration) -> Wire {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let now = Instant::now();
        Wire { stream, buffer: Vec::new(), opened: now, deadline: now + limit, last_write: now, ended: None }
    }

    /// Writes and reads at the same time, so that neither side blocks the other.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() && Instant::now() < self.deadline && self.ended.is_none() {
            match self.stream.write(&left[..left.len().min(65_536)]) {
                Ok(taken) => left = &left[taken..],
                Err(error) if is_not_yet(&error) => {}
                Err(_) => return,
            }
            self.last_write = Instant::now();
            if bytes.len() > 65_536 {
                self.pump(Duration::from_micros(100));
            }
        }
    }

    /// Reads the bytes that arrive within this time. Returns false if none arrive.
    pub fn pump(&mut self, wait: Duration) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.stream.set_read_timeout(Some(wait.max(Duration::from_micros(100)))).unwrap();
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.ended = Some(Instant::now()),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                return true;
            }
            Err(error) if is_not_yet(&error) => {}
            Err(_) => self.ended = Some(Instant::now()),
        }
        false
    }

    fn more(&mut self) -> Result<(), Halt> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.ended {
            Some(_) => Err(Halt::Ended),
            None if left.is_zero() => Err(Halt::TimeUp),
            None => {
                self.pump(left.min(Duration::from_millis(250)));
                Ok(())
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, Halt> {
        while self.buffer.len() < count {
            self.more()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn line(&mut self) -> Result<String, Halt> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.take(end + 1)?;
                return Ok(line
                    .iter()
                    .map(|byte| char::from(*byte))
                    .collect::<String>()
                    .trim_end()
                    .to_owned());
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(Halt::Broken("a line without an end".into()));
            }
            self.more()?;
        }
    }

    /// Reads one answer, and discards its body.
    pub fn answer(&mut self, method: &str) -> Result<Answer, Halt> {
        let line = self.line()?;
        let broken = |line: &str| Halt::Broken(format!("not an answer: {:?}", &line[..line.len().min(80)]));
        let version = line.get(..8).filter(|it| ["HTTP/1.0", "HTTP/1.1"].contains(it));
        let status = line.get(9..12).and_then(|digits| digits.parse().ok());
        let (Some(version), Some(status)) = (version, status) else { return Err(broken(&line)) };
        let mut answer = Answer { version: version.to_owned(), status, headers: BTreeMap::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            if name.is_empty() || name.trim() != name {
                return Err(broken(&line));
            }
            let value = value.trim().to_owned();
            answer
                .headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|all| *all = format!("{all}, {value}"))
                .or_insert(value);
        }
        self.skip_body(&answer, method)?;
        Ok(answer)
    }

    fn skip_body(&mut self, answer: &Answer, method: &str) -> Result<(), Halt> {
        if answer.status < 200 || matches!(answer.status, 204 | 304) || method == "HEAD" {
            return Ok(());
        }
        if answer.headers.get("transfer-encoding").is_some_and(|it| it.contains("chunked")) {
            loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(digits, 16)
                    .map_err(|_| Halt::Broken(format!("not a chunk size: {line:?}")))?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    return Ok(());
                }
                self.take(size)?;
                self.line()?;
            }
        }
        if let Some(length) = answer.headers.get("content-length") {
            let length = length.parse().map_err(|_| Halt::Broken(format!("content-length: {length:?}")))?;
            return self.take(length).map(drop);
        }
        while self.ended.is_none() {
            self.more()?;
        }
        self.buffer.clear();
        Ok(())
    }
}

fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
