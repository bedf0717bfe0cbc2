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
use crate::{Request, Response};

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
    /// A server that will listen there; port 0 takes a free one. Of several addresses of a name the
    /// first one is taken. A name that cannot be resolved is reported when the server is started.
    pub fn bind(address: impl ToSocketAddrs) -> Server {
        let address = address.to_socket_addrs().and_then(|mut all| {
            all.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no address"))
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

    /// What the server's threads are named after [default: `puma srv`]. NUL, which a thread's name cannot
    /// hold, is left out.
    pub fn name(mut self, name: impl Into<String>) -> Server {
        self.configuration.name = name.into().replace('\0', "");
        self
    }

    /// Least and most threads of the pool [default: `8..=8`]. A page holds one while it is written, a
    /// stream for as long as it lasts.
    pub fn threads(mut self, threads: RangeInclusive<usize>) -> Server {
        self.configuration.threads = threads;
        self
    }

    /// Threads that may be marked IO-bound on top of the pool [default: 0]. See
    /// [`Request::mark_as_io_bound`].
    pub fn max_io_threads(mut self, most: usize) -> Server {
        self.configuration.max_io_threads = most;
        self
    }

    /// How often one idle thread above the least is dropped [default: 30 s].
    pub fn auto_trim_time(mut self, every: Duration) -> Server {
        self.configuration.auto_trim_time = every;
        self
    }

    /// How long a blocked write waits for its client, in total [default: 10 s].
    pub fn write_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.write_timeout = timeout;
        self
    }

    /// How long an answer that is written whole may wait for its client, in total [default: 5 s]; None:
    /// as long as any write.
    pub fn max_answer_time(mut self, most: Option<Duration>) -> Server {
        self.configuration.max_answer_time = most;
        self
    }

    /// The largest request head, in bytes [default: 114,688]. A larger one is refused with 431.
    pub fn max_head_bytes(mut self, most: usize) -> Server {
        self.configuration.max_head_bytes = most;
        self
    }

    /// The largest request body, in bytes [default: 1 MiB]. A larger one is refused with 413.
    pub fn max_body_bytes(mut self, most: u64) -> Server {
        self.configuration.max_body_bytes = most;
        self
    }

    /// The most memory that unfinished requests of all connections may take, in bytes [default: 64 MiB].
    /// Further ones are refused with 503.
    pub fn max_pending_bytes(mut self, most: usize) -> Server {
        self.configuration.max_pending_bytes = most;
        self
    }

    /// The most connections at once [default: no limit]. For a further one an idle one is evicted, or it
    /// is refused with 503.
    pub fn max_connections(mut self, most: usize) -> Server {
        self.configuration.max_connections = most;
        self
    }

    /// The longest pause between two bytes of a request, and before the first [default: 30 s].
    pub fn first_data_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.first_data_timeout = timeout;
        self
    }

    /// How long a request's head may take, from its first byte to its last [default: 60 s].
    pub fn head_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.head_timeout = timeout;
        self
    }

    /// How long a connection may be idle between two requests [default: 65 s].
    pub fn persistent_timeout(mut self, timeout: Duration) -> Server {
        self.configuration.persistent_timeout = timeout;
        self
    }

    /// How long written bytes may stay unacknowledged by a peer [default: as long as the kernel's]. Linux
    /// only.
    pub fn tcp_user_timeout(mut self, timeout: Option<Duration>) -> Server {
        self.configuration.tcp_user_timeout = timeout;
        self
    }

    /// Ends each stream at this age, give or take [`max_stream_age_jitter`](Server::max_stream_age_jitter),
    /// and tells its client to reconnect [default: no limit].
    pub fn max_stream_age(mut self, age: Duration) -> Server {
        self.streams.max_age = Some(age);
        self
    }

    /// The largest random part of the maximum age by which a stream's own is shortened, from 0 to 1
    /// [default: 0.1], so that streams which began together do not reconnect together.
    pub fn max_stream_age_jitter(mut self, part: f64) -> Server {
        self.streams.max_age_jitter = part;
        self
    }

    /// The most streams at once [default: no limit]. The next one is told at once to reconnect later, and
    /// holds no thread.
    pub fn stream_cap(mut self, most: usize) -> Server {
        self.streams.cap = Some(most);
        self
    }

    /// When the client of a stream that ended is to reconnect [default: 3 s].
    pub fn retry(mut self, after: Duration) -> Server {
        self.streams.retry = after;
        self
    }

    /// How a stream notices that its client has closed [default: by the second write after the close].
    pub fn notice_close(mut self, how: NoticeClose) -> Server {
        self.streams.notice_close = how;
        self
    }

    /// How often the reaper looks for streams that are too old [default: 1 s].
    pub fn reap_every(mut self, every: Duration) -> Server {
        self.configuration.reap_every = Some(every);
        self
    }

    /// Starts no reaper: for a server without streams.
    pub fn without_reaper(mut self) -> Server {
        self.configuration.reap_every = None;
        self
    }

    /// Registers streams here, in place of a registry of the server's own: for an app that asks for its
    /// numbers. The settings of this registry hold, and those given to this builder do not.
    pub fn streams(mut self, streams: Arc<Streams>) -> Server {
        self.shared_streams = Some(streams);
        self
    }

    /// Records what happens here [default: nothing is recorded].
    pub fn record(mut self, timeline: Arc<Timeline>) -> Server {
        self.timeline = Some(timeline);
        self
    }

    /// Reports a service thread that ends by itself here [default: the log alone].
    pub fn services(mut self, services: Services) -> Server {
        self.configuration.services = services;
        self
    }

    /// Starts the server, and returns once it accepts connections.
    pub fn start(
        self,
        app: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Result<Handle, StartError> {
        self.start_app(app)
    }

    /// The same, with an app of a type of its own.
    pub fn start_app(self, app: impl App) -> Result<Handle, StartError> {
        self.start_shared(Arc::new(app))
    }

    /// The same, with an app that others hold as well.
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

    /// Starts the server and serves until its listener dies; an error says why. Signals are left to the
    /// program: by default, INT and TERM end the process.
    pub fn serve(self, app: impl Fn(&Request) -> Response + Send + Sync + 'static) -> io::Result<()> {
        let handle = self.start(app)?;
        match handle.died().recv() {
            Ok(died) => Err(io::Error::other(died)),
            // The sender goes only with the acceptor, which says why before.
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_without_a_largest_size_has_numbers() {
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
    fn a_name_that_no_thread_can_have_starts_a_server_all_the_same() {
        let server = Server::bind("127.0.0.1:0").name("my\0 server").threads(1..=2);
        let handle = server.start(|_: &Request| Response::text("")).unwrap();
        assert_eq!(handle.threads()[0].name, "my server tp 001");
    }
}
