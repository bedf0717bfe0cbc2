//! `ninetabs tab URL`: one EventSource on the command line.
//!
//! Events go to standard output, one JSON object per line, each flushed. Notes on the connection go to standard error,
//! so the output can be piped into `jq` while the notes stay visible.
//!
//! Blocks until the given number of events or the given time is reached, the stream has failed for good, or the
//! command is interrupted. While standard output is blocked, the stream is not read. A closed standard output counts
//! as success. Neither the time limit nor a signal waits for a blocked output: one thread writes the events and
//! another the notes, which are dropped if they cannot be written ([`super::outlet`]).

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, after, bounded, never, select};
use url::Url;

use super::duration::seconds;
use super::failed;
use super::interrupt::{FirstOfTwo, INTERRUPTED};
use super::outlet::Outlet;
use super::tab_notes::TabNotes;
use crate::lab::event_stream::ReceivedEvent;
use crate::lab::http::{Schemes, Tls, Verification, parse_field, parse_url_of};
use crate::lab::tab::{Happens, Settings, Tab};
use ninetabs_server::escape;
use ninetabs_server::threads::{StopSignal, StoppableThread};

/// The maximum time for the last event or note to be written.
const LAST_LINE: Duration = Duration::from_millis(300);

pub(super) const EXAMPLES: &str = "\
Like a browser, it decodes gzip, deflate and br, follows redirects, and sends the
URL's user and password after a 401. It reconnects until Ctrl-C, at most 10 times
per second after the first 30. A response that reconnecting cannot improve, such
as a 404, ends the command.

Exit status: 0 at --events, --for or a closed pipe, 1 if the stream failed for
good, 130 if interrupted.

Examples:
  ninetabs tab --events 3 http://127.0.0.1:9292/models/live_stream
  ninetabs tab --last-event-id 0 http://tab1.localhost:9292/models/live_stream | jq -r .data
  ninetabs tab -H 'Authorization: Bearer TOKEN' https://example.com/events";

/// Follow one event stream as a browser's EventSource does
///
/// Each event is one line of JSON on standard output. Notes on the connection go to standard error.
#[derive(Debug, Clone, Args)]
pub struct TabArgs {
    /// Address of the stream, as http://HOST:PORT/PATH or https://HOST/PATH
    ///
    /// Names below localhost resolve to this machine.
    #[arg(value_name = "URL", value_parser = stream_url)]
    pub url: Url,

    /// End with status 0 after this many events [default: no limit]
    #[arg(long, value_name = "N", value_parser = event_count)]
    pub events: Option<u64>,

    /// End with status 0 after this time [seconds; default: no limit]
    #[arg(long = "for", value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Resume after the event with this id, sent as Last-Event-ID [default: none]
    #[arg(long, value_name = "ID", value_parser = event_id, default_value = "", hide_default_value = true)]
    pub last_event_id: String,

    /// Header to send with each request, as 'Name: value'; repeatable
    ///
    /// It replaces the header of that name that an EventSource sends. Without a value, that header is not sent at
    /// all. After a redirect to another origin, Authorization and Cookie are not sent.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_field)]
    pub headers: Vec<(String, Vec<u8>)>,

    /// Do not verify the certificate of an https server
    ///
    /// By default, the certificate authorities that the system trusts are accepted, or those in the file that
    /// SSL_CERT_FILE names.
    #[arg(short = 'k', long)]
    pub insecure: bool,
}

fn stream_url(text: &str) -> Result<Url, String> {
    parse_url_of(text, Schemes::HttpOrHttps).map_err(|error| error.to_string())
}

fn event_count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "give 1 or more".to_owned())
}

fn event_id(text: &str) -> Result<String, String> {
    match text.contains(['\r', '\n', '\0']) {
        false => Ok(text.to_owned()),
        true => Err("an id cannot contain a line break or NUL; give it on one line".to_owned()),
    }
}

/// How following a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TabEnd {
    /// A limit of the command line was reached, or standard output was closed.
    Done,
    /// The stream failed for good, or could not be followed.
    Failed,
    Interrupted,
}

/// Follows the stream, and returns the exit status for how it ended.
pub fn run(args: TabArgs, signals: &FirstOfTwo) -> ExitCode {
    let mut notes = match Outlet::start("notes", io::stderr(), |_| {}) {
        Ok(notes) => notes,
        Err(error) => return failed(error),
    };
    let end = in_time(args, &signals.first, io::stdout(), &mut notes);
    notes.flush(LAST_LINE);
    match end {
        TabEnd::Done => ExitCode::SUCCESS,
        TabEnd::Failed => ExitCode::FAILURE,
        TabEnd::Interrupted => ExitCode::from(INTERRUPTED),
    }
}

/// Follows the stream on a separate thread. Once the time is up or `interrupted` is ready, waits for that thread only
/// briefly, since its output may be blocked.
fn in_time(
    args: TabArgs,
    interrupted: &Receiver<()>,
    mut events_to: impl Write + Send + 'static,
    notes_to: &mut (impl Write + Clone + Send + 'static),
) -> TabEnd {
    let time_is_up = args.duration.map_or_else(never, after);
    let (tell, ended) = bounded(1);
    let mut notes = notes_to.clone();
    let follower = StoppableThread::start("events", move |stop| {
        // The receiver may be gone.
        let _ = tell.send(follow(args, stop, &mut events_to, &mut notes));
    });
    let follower = match follower {
        Ok(follower) => follower,
        Err(error) => {
            note(notes_to, &error.to_string());
            return TabEnd::Failed;
        }
    };
    let end = select! {
        recv(ended) -> end => return end.unwrap_or(TabEnd::Failed),
        recv(time_is_up) -> _ => TabEnd::Done,
        recv(interrupted) -> _ => TabEnd::Interrupted,
    };
    // A line that is being written is completed if possible.
    follower.end_within(LAST_LINE);
    end
}

/// Prints events until the stream ends or `stop` receives a message.
fn follow(args: TabArgs, stop: &StopSignal, events_to: &mut impl Write, notes_to: &mut impl Write) -> TabEnd {
    let verification = if args.insecure { Verification::Skipped } else { Verification::System };
    let settings = Settings {
        last_event_id: args.last_event_id,
        headers: args.headers,
        tls: Some(Tls::new(verification)),
        ..Settings::default()
    };
    let (to, happenings) = bounded(1);
    let _tab = match Tab::open_into(args.url.as_str(), settings, to) {
        Ok(tab) => tab,
        Err(error) => {
            note(notes_to, &error.to_string());
            return TabEnd::Failed;
        }
    };
    let mut left = args.events;
    let mut notes = TabNotes::default();
    loop {
        let what = select! {
            recv(happenings) -> happening => match happening {
                Ok(happening) => happening.what,
                Err(_) => return TabEnd::Failed,
            },
            recv(notes.due()) -> _ => {
                notes.opened().iter().for_each(|text| note(notes_to, text));
                continue;
            }
            recv(stop.receiver()) -> _ => return TabEnd::Done,
        };
        notes.on(&what).iter().for_each(|text| note(notes_to, text));
        match what {
            Happens::Event(event) => match print(events_to, &event) {
                Ok(()) => left = left.map(|left| left - 1),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return TabEnd::Done,
                Err(error) => {
                    note(notes_to, &format!("cannot write to standard output: {error}"));
                    return TabEnd::Failed;
                }
            },
            Happens::Failed { .. } => return TabEnd::Failed,
            _ => {}
        }
        if left == Some(0) {
            return TabEnd::Done;
        }
    }
}

fn print(to: &mut impl Write, event: &ReceivedEvent) -> io::Result<()> {
    let line = serde_json::to_string(event)?;
    writeln!(to, "{}", escape::json(&line))?;
    to.flush()
}

/// A failed write to standard error is ignored.
fn note(to: &mut impl Write, text: &str) {
    let _ = to.write_all(format!("tab: {}\n", escape::printable(text)).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use std::thread;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tab: TabArgs,
    }

    fn typed(arguments: &[&str]) -> Result<TabArgs, String> {
        let line = Line::try_parse_from([&["tab"], arguments].concat());
        line.map(|line| line.tab).map_err(|error| error.to_string())
    }

    /// Serves `answer` to one connection, and returns the request that it received.
    fn serve(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/stream", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            // Blocks until the client closes.
            let _ = stream.read(&mut [0]);
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        (url, server)
    }

    /// Joins a server whose client may have left before it connected.
    fn let_go(url: &str, server: thread::JoinHandle<String>) {
        let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/stream")).unwrap();
        drop(std::net::TcpStream::connect(address));
        server.join().unwrap();
    }

    const TWO_EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
                              id: 8\nevent: a\ndata: \"1\"\n\ndata: 2\n\n";

    /// The bytes that a thread has written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn each_event_is_a_line_and_the_given_number_ends_the_command() {
        let (url, server) = serve(TWO_EVENTS);
        let args = typed(&["--events", "2", "--last-event-id", "7", &url]).unwrap();
        let (out, mut notes) = (Written::default(), Written::default());
        assert_eq!(in_time(args, &never(), out.clone(), &mut notes), TabEnd::Done);
        let expected = "{\"type\":\"a\",\"data\":\"\\\"1\\\"\",\"lastEventId\":\"8\"}\n\
                        {\"type\":\"message\",\"data\":\"2\",\"lastEventId\":\"8\"}\n";
        assert_eq!(out.text(), expected);
        let notes = notes.text();
        assert!(notes.contains("connected from port") && notes.contains("streams after"), "{notes}");
        assert!(server.join().unwrap().contains("\r\nLast-Event-ID: 7\r\n"));
    }

    #[test]
    fn a_time_limit_an_interrupt_and_a_failure_end_the_command_differently() {
        let (url, server) = serve(TWO_EVENTS);
        let args = typed(&["--for", "50ms", &url]).unwrap();
        let mut notes = Written::default();
        assert_eq!(in_time(args, &never(), io::sink(), &mut notes), TabEnd::Done);
        let_go(&url, server);

        let (url, server) = serve(TWO_EVENTS);
        let (signal, interrupted) = bounded(1);
        signal.send(()).unwrap();
        let args = typed(&[&url]).unwrap();
        assert_eq!(in_time(args, &interrupted, io::sink(), &mut notes), TabEnd::Interrupted);
        let_go(&url, server);

        let (url, server) = serve("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        let mut notes = Written::default();
        assert_eq!(in_time(typed(&[&url]).unwrap(), &never(), io::sink(), &mut notes), TabEnd::Failed);
        assert!(notes.text().contains("failed for good: the server answered 503"));
        server.join().unwrap();
    }

    #[test]
    fn a_closed_standard_output_is_success() {
        let (reader, closed) = io::pipe().unwrap();
        drop(reader);
        let (url, server) = serve(TWO_EVENTS);
        let mut notes = Written::default();
        assert_eq!(in_time(typed(&[&url]).unwrap(), &never(), closed, &mut notes), TabEnd::Done);
        server.join().unwrap();
    }

    #[test]
    fn a_refusal_of_a_value_says_what_to_give() {
        for (arguments, says) in [
            (&["ftp://localhost/"][..], "https://"),
            (&["localhost:9292/x"], "http://"),
            (&["--for", "soon", "http://localhost/"], "500ms"),
            (&["--events", "0", "http://localhost/"], "give 1 or more"),
            (&["--events", "many", "http://localhost/"], "give 1 or more"),
            (&["-H", "Accept", "http://localhost/"], "give 'Name: value'"),
            (&["-H", "A b: c", "http://localhost/"], "give 'Name: value'"),
            (&["-H", "Content-Length: 1", "http://localhost/"], "determined by the body"),
            (&["--last-event-id", "a\nb", "http://localhost/"], "one line"),
        ] {
            let error = typed(arguments).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
