//! The builder of a server: its address, its limits and its app.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::configuration::Configuration;
use crate::handle::Handle;
use crate::listen::{ListenOptions, StartError, listen};
use crate::services::Services;
use crate::streams::{NoticeClose, StreamSettings, Streams};
use crate::timeline::Timeline;
use crate::{ActionsOn, Request, Response};

/// Builds a server. The defaults are those of [`configuration`](crate::configuration).
///
/// ```no_run
/// use ninetabs_server::{Response, Server};
///
/// fn main() -> std::io::Result<()> {
///     Server::bind("127.0.0.1:3000").threads(0..=8).serve(|request| match request.path() {
///         "/" => Response::text("hello"),
///         _ => Response::not_found(),
///     })
/// }
/// ```
#[derive(Debug)]
pub struct Server {
    address: io::Result<SocketAddr>,
    configuration: Configuration,
    streams: StreamSettings,
    shared_streams: Option<Arc<Streams>>,
    timeline: Option<Arc<Timeline>>,
}

impl Server {
    /// Creates a builder for a server that will listen on this address. With port 0, the system chooses a free port. If
    /// a name has several addresses, the first one is used. If the address cannot be resolved, starting the server
    /// returns the error.
    pub fn bind(address: impl ToSocketAddrs) -> Server {
        let address = address.to_socket_addrs().and_then(|mut all| {
            all.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name has no address"))
        });
        let bind = address.as_ref().map_or_else(|_| ([127, 0, 0, 1], 0).into(), |it| *it);
        Server {
            address,
            configuration: Configuration::new("puma srv", bind),
            streams: StreamSettings::default(),
            shared_streams: None,
            timeline: None,
        }
    }

    /// Sets the prefix of the server's thread names [default: `puma srv`]. NUL, which a thread name cannot contain, is
    /// removed.
    pub fn name(mut self, name: impl Into<String>) -> Server {
        self.configuration.name = name.into().replace('\0', "");
        self
    }

    /// Sets the minimum and maximum number of pool threads [default: `8..=8`]. A page holds a thread until it has been
    /// written, and a stream holds one until it ends.
    pub fn threads(mut self, threads: RangeInclusive<usize>) -> Server {
        self.configuration.threads = threads;
        self
    }

    /// Sets how many threads may be marked IO-bound in addition to the pool's maximum [default: 0]. See
    /// [`Request::mark_as_io_bound`].
    pub fn max_io_threads(mut self, most: usize) -> Server {
        self.configuration.max_io_threads = most;
        self
    }

    /// Sets the interval at which one idle thread above the minimum is trimmed [default: 30 s].
    pub fn auto_trim_time(mut self, every: Duration) -> Server {
        self.configuration.auto_trim_time = every;
        self
    }

    /// Sets how long a blocked write waits for its client, in total [default: 10 s].
    pub fn write_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.write_timeout = timeout;
        self
    }

    /// Sets how long an answer written in one piece may wait for its client, in total [default: 5 s]. With `None`, only
    /// [`write_timeout`](Server::write_timeout) applies.
    pub fn max_answer_time(mut self, most: Option<Duration>) -> Server {
        self.configuration.max_answer_time = most;
        self
    }

    /// Sets the maximum size of a request head, in bytes [default: 114,688]. A larger one is refused with
    /// 431.
    pub fn max_head_bytes(mut self, most: usize) -> Server {
        self.configuration.max_head_bytes = most;
        self
    }

    /// Sets the maximum size of a request body, in bytes [default: 1 MiB]. A larger one is refused with 413.
    pub fn max_body_bytes(mut self, most: u64) -> Server {
        self.configuration.max_body_bytes = most;
        self
    }

    /// Sets the maximum memory for the requests of all connections that no thread has taken yet, in bytes [default:
    /// 64 MiB]. Further requests are refused with 503, except complete ones of up to 16 KiB.
    pub fn max_pending_bytes(mut self, most: usize) -> Server {
        self.configuration.max_pending_bytes = most;
        self
    }

    /// Sets the maximum number of open connections [default: no limit]. A further connection replaces one without
    /// a complete request or, if there is none, is refused with 503.
    pub fn max_connections(mut self, most: usize) -> Server {
        self.configuration.max_connections = most;
        self
    }

    /// Sets the longest wait for the first byte of a connection, and between two bytes of a request [default: 30 s].
    pub fn first_data_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.first_data_timeout = timeout;
        self
    }

    /// Sets how long the head of a request may take, from its first byte to its last [default: 60 s].
    pub fn head_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.head_timeout = timeout;
        self
    }

    /// Sets how long a connection may be idle between two requests [default: 65 s].
    pub fn persistent_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.persistent_timeout = timeout;
        self
    }

    /// Sets how long written bytes may remain unacknowledged by the peer [default: the kernel's setting]. Linux only.
    pub fn tcp_user_timeout(mut self, timeout: Option<Duration>) -> Server {
        self.configuration.tcp_user_timeout = timeout;
        self
    }

    /// Sets the maximum age of a stream [default: no limit]. When a stream reaches this age minus its
    /// [jitter](Server::max_stream_age_jitter), the reaper ends it, and its client reconnects.
    pub fn max_stream_age(mut self, age: Duration) -> Server {
        self.streams.max_age = Some(age);
        self
    }

    /// Sets the maximum fraction, from 0 to 1, by which the maximum age of a stream is randomly shortened [default:
    /// 0.1], so that streams that began together do not end together.
    pub fn max_stream_age_jitter(mut self, part: f64) -> Server {
        self.streams.max_age_jitter = part;
        self
    }

    /// Sets the maximum number of open streams [default: no limit]. A further stream is ended immediately, which tells
    /// its client to reconnect and frees the thread.
    pub fn stream_cap(mut self, most: usize) -> Server {
        self.streams.cap = Some(most);
        self
    }

    /// Sets how long a client waits before it reconnects after its stream has ended [default: 3 s].
    pub fn retry(mut self, after: Duration) -> Server {
        self.streams.retry = after;
        self
    }

    /// Sets how a stream detects that its client has closed [default: by the second write after the close]. With
    /// [`ActionsOn::OwnThread`], [`NoticeClose::ByPoll`] is ignored, because an action on its own thread has no
    /// access to the socket.
    pub fn notice_close(mut self, how: NoticeClose) -> Server {
        self.streams.notice_close = how;
        self
    }

    /// Sets the kind of thread on which the action of a stream runs [default: the pool thread that took the request].
    /// With [`ActionsOn::OwnThread`], a stream holds two threads, as in Rails, and the action may outlive its answer.
    /// If the client speaks HTTP/1.0, the pool thread is free after the first writes.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use ninetabs_server::{ActionsOn, Event, Response, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0").actions_on(ActionsOn::OwnThread).start(|_| {
    ///     Response::events(|stream| loop {
    ///         stream.send(Event::data("tick"))?;
    ///         stream.sleep(Duration::from_secs(1))?;
    ///     })
    /// })?;
    /// // After an HTTP/1.0 request, this is 1, and only a maximum age or a reap ends the action.
    /// println!("{:?}", server.stats().action_threads.map(|it| it.orphaned));
    /// # Ok::<(), ninetabs_server::StartError>(())
    /// ```
    pub fn actions_on(mut self, thread: ActionsOn) -> Server {
        self.configuration.actions_on = thread;
        self
    }

    /// Sets how often the reaper checks for streams that are too old [default: 1 s].
    pub fn reap_every(mut self, every: Duration) -> Server {
        self.configuration.reap_every = Some(every);
        self
    }

    /// Disables the reaper. Meant for a server without streams.
    pub fn without_reaper(mut self) -> Server {
        self.configuration.reap_every = None;
        self
    }

    /// Registers streams in this registry instead of creating one, for an app that reads the registry's statistics. The
    /// registry's own settings apply, and the stream settings of this builder are ignored.
    pub fn streams(mut self, streams: Arc<Streams>) -> Server {
        self.shared_streams = Some(streams);
        self
    }

    /// Records events in this timeline [default: nothing is recorded].
    pub fn record(mut self, timeline: Arc<Timeline>) -> Server {
        self.timeline = Some(timeline);
        self
    }

    /// Reports service threads that end unexpectedly to `services` [default: only to the log].
    pub fn services(mut self, services: Services) -> Server {
        self.configuration.services = services;
        self
    }

    /// Starts the server. Returns when it accepts connections.
    pub fn start(
        self,
        app: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Result<Handle, StartError> {
        self.start_app(app)
    }

    /// Like [`start`](Server::start), for a type that implements [`App`].
    pub fn start_app(self, app: impl App) -> Result<Handle, StartError> {
        self.start_shared(Arc::new(app))
    }

    /// Like [`start_app`](Server::start_app), for an app that is shared with other owners.
    pub fn start_shared(self, app: Arc<dyn App>) -> Result<Handle, StartError> {
        let Server { address, configuration, streams, shared_streams, timeline } = self;
        let address = address.map_err(StartError::Address)?;
        let options =
            ListenOptions { tcp_user_timeout: configuration.tcp_user_timeout, ..ListenOptions::default() };
        let listener = listen(address, options)?;
        let timeline = timeline.unwrap_or_else(|| Arc::new(Timeline::disabled()));
        let streams =
            shared_streams.unwrap_or_else(|| Arc::new(Streams::new(&streams, Arc::clone(&timeline))));
        Handle::start(listener, configuration, streams, timeline, app)
    }

    /// Starts the server and serves until its listener dies, and then returns that error. Signal handling is left to
    /// the program: by default, INT and TERM end the process.
    pub fn serve(self, app: impl Fn(&Request) -> Response + Send + Sync + 'static) -> io::Result<()> {
        let handle = self.start(app)?;
        match handle.died().recv() {
            Ok(died) => Err(io::Error::other(died)),
            // The sender is dropped only with the acceptor, which reports its error first.
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_a_pool_of_unlimited_size_are_correct() {
        let server = Server::bind("127.0.0.1:0").threads(1..=usize::MAX).max_io_threads(usize::MAX);
        let handle = server.start(|_: &Request| Response::text("")).unwrap();
        let pool = handle.glance().pool;
        assert_eq!((pool.waiting, pool.pool_capacity), (1, usize::MAX - 1));
        handle.resize(usize::MAX, usize::MAX).unwrap();
        handle.shutdown(Duration::from_secs(60));
        handle.trim();
        assert_eq!(handle.stats().pool.running, 0);
    }

    #[test]
    fn a_server_starts_even_if_its_name_is_invalid_for_a_thread() {
        let server = Server::bind("127.0.0.1:0").name("my\0 server").threads(1..=2);
        let handle = server.start(|_: &Request| Response::text("")).unwrap();
        assert_eq!(handle.threads()[0].name, "my server tp 001");
    }
}
