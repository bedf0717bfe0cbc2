//! Starts the parts of `serve`, and stops them in order.
//!
//! Only this module knows all of them: it passes the app to the server, the streams to the reaper, and everything to
//! the control server.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use socket2::{Domain, Socket, Type};
use thiserror::Error;

use super::command_line;
use super::descriptors::{self, CONTROL_CONNECTIONS};
use super::earlier_rows::EarlierRows;
use super::files::claimed::Claimed;
use super::files::output::PreparedOutput;
use super::files::whole::{ReservedFile, unwritable};
use super::files::{FileError, check_database};
use super::second_server;
use super::serve_args::{DbLease, FrontDoor, LiveModel, Notice, ServeArgs, StreamLoop};
use super::state_file::StateFile;
use super::temporary_folder::MEMORY;
use super::trace_file::TraceFile;
use super::values::OrAuto;
use crate::app::adapters::Failure;
use crate::app::adapters::sqlite3::{self, Keep};
use crate::app::broadcaster::{Broadcaster, BroadcasterError, PUSH_BUFFER};
use crate::app::database::{Database, LeaseFor, OpenError};
use crate::app::host_authorization::HostAuthorization;
use crate::app::outside_writers::{OutsideWriters, WatchError};
use crate::app::producer::{Lull, Producer, ProducerError};
use crate::app::servers::{RunningServers, Started};
use crate::app::templates::ViewsError;
use crate::app::views::Views;
use crate::app::{AppSettings, Loop, Rails};
use crate::control::{self, Beside, Control, Growth, Guard, Pages, ServerParts, Stop, Token, View};
use crate::fixes::{Fixes, Told};
use crate::front::tiny_http::TinyHttpSettings;
use crate::front::{AppServer, TinyHttpServer};
use ninetabs_server::configuration as default;
use ninetabs_server::services::Services;
use ninetabs_server::streams::{NoticeClose, StreamSettings, Streams};
use ninetabs_server::thread_pool::Shutdown;
use ninetabs_server::threads;
use ninetabs_server::timeline::Timeline;
use ninetabs_server::{ActionsOn, App, Handle, Request, Server, StartError};

/// The time that the control server's last responses get after everything else has ended. One of them may be the
/// response to the order to stop.
const CONTROL_GRACE: Duration = Duration::from_millis(500);
/// The maximum time to stop the app of a start that is refused late.
const REFUSAL_GRACE: Duration = Duration::from_millis(500);
/// The channel of orders to end the process.
pub type Orders = (Sender<Stop>, Receiver<Stop>);

/// The minimum time that the producer gets to end, however long the other parts of a stop took.
const PRODUCER_GRACE: Duration = Duration::from_millis(50);

/// The same for the thread that reads the database for listeners.
const READER_GRACE: Duration = Duration::from_millis(50);

/// Why nothing was started: the flag, its value, and what to do.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("--views {}: {error}; give a folder with a copy of views/", .folder.display())]
    Views { folder: PathBuf, error: ViewsError },
    #[error(
        "--db-pool {size}: the database gave only {opened} connections: {error}; give fewer (auto is one for each of --threads), or raise the limit of descriptors (ulimit -n)"
    )]
    DatabasePool { size: usize, opened: usize, error: Failure },
    #[error("--database {}: {error}; the file is unchanged, give another path", .path.display())]
    Database { path: PathBuf, error: OpenError },
    #[error("--database {}: {error}; the file is unchanged, give another path", .path.display())]
    NoDatabase { path: PathBuf, error: FileError },
    #[error(
        "{flag} tcp://{address} is in use; stop the program that listens there, or give another port (0 takes a free one)"
    )]
    AddressInUse { flag: &'static str, address: SocketAddr },
    #[error("{flag}: {error}")]
    Server { flag: &'static str, error: StartError },
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    #[error("cannot read random bytes for the token of the dashboard: {0}")]
    Token(#[from] getrandom::Error),
    #[error("--produce-every: {0}")]
    Producer(#[from] ProducerError),
    #[error("cannot start the broadcaster: {0}")]
    Broadcaster(#[from] BroadcasterError),
    #[error("cannot watch for rows of other programs: {0}")]
    OutsideWriters(#[from] WatchError),
    #[error("cannot write --trace {}: {}; give a path that can be written", .path.display(), unwritable(error))]
    Trace { path: PathBuf, error: FileError },
    #[error("cannot write --state {}: {}; give a path that can be written", .path.display(), unwritable(error))]
    State { path: PathBuf, error: FileError },
}

/// The paths of `--state` and `--trace`: they are writable, and unchanged so far.
struct Written {
    state: Option<(PathBuf, ReservedFile)>,
    trace: Option<(PathBuf, PreparedOutput)>,
}

impl Written {
    fn reserve(args: &ServeArgs) -> Result<Written, BootError> {
        let trace = |path: PathBuf| match PreparedOutput::at(&path) {
            Ok(prepared) => Ok((path, prepared)),
            Err(error) => Err(BootError::Trace { path, error }),
        };
        let state = |path: PathBuf| match StateFile::reserve(&path) {
            Ok(reserved) => Ok((path, reserved)),
            Err(error) => Err(BootError::State { path, error }),
        };
        Ok(Written {
            trace: args.trace.clone().map(trace).transpose()?,
            state: args.state.clone().map(state).transpose()?,
        })
    }
}

/// Everything that runs. Fields are dropped in the order in which things stop.
pub struct Running {
    /// The state file. `serve` takes it out, so that it is removed even if the rest of a stop is blocked.
    pub state: Option<StateFile>,
    trace: Option<TraceFile>,
    producer: Option<Producer>,
    outside_writers: Option<OutsideWriters>,
    pub control: Handle,
    pub app: Arc<AppServer>,
    /// The second server of the wall.
    beside: Arc<Beside>,
    /// Receives the orders to end that the control server got.
    pub stops: Receiver<Stop>,
    live: Arc<Streams>,
    broadcaster: Arc<Broadcaster>,
    database: Arc<Database>,
    timeline: Arc<Timeline>,
    /// Receives when a service thread ended by itself.
    pub services: Services,
    pub earlier_rows: EarlierRows,
}

impl Running {
    /// Starts everything, each part after those that it uses.
    pub fn start(args: &ServeArgs, path: &Path, orders: Orders) -> Result<Running, BootError> {
        // A start that is refused for a path or a port leaves no database behind.
        refuse_what_is_in_use([("--bind", args.bind), ("--control-url", args.control_url)])?;
        let written = Written::reserve(args)?;
        if let Err(error) = check_database(path) {
            return Err(BootError::NoDatabase { path: path.to_owned(), error });
        }
        let claimed = Claimed::at(path);
        let mut opened = None;
        let started = Running::start_on(args, path, orders, &mut opened).and_then(|mut running| {
            let began = running.begin(written, args);
            if began.is_err() {
                running.stop(REFUSAL_GRACE);
            }
            began.map(|()| running)
        });
        if started.is_err() {
            if let Some(database) = opened {
                database.close();
            }
            claimed.remove();
        }
        started
    }

    /// Starts everything that writes no files. Stores the opened database in `opened`, even if it fails later.
    fn start_on(
        args: &ServeArgs,
        path: &Path,
        orders: Orders,
        opened: &mut Option<Arc<Database>>,
    ) -> Result<Running, BootError> {
        let limit = descriptors::raise_limit();
        let max = args.threads.max();
        let timeline = Arc::new(Timeline::default());
        let services = Services::default();
        let no_views = |error| BootError::Views { folder: args.views.clone().unwrap_or_default(), error };
        let views = Views::new(args.views.as_deref()).map_err(no_views)?;
        let pages = Pages::new(args.views.as_deref()).map_err(no_views)?;
        let size = args.db_pool.0.unwrap_or(max + args.max_io_threads);
        let lease_for = match args.db_lease {
            DbLease::Action => LeaseFor::Action,
            DbLease::Query => LeaseFor::Query,
        };
        let keep = if args.database == Path::new(MEMORY) { Keep::WhileOpen } else { Keep::Forever };
        let mut earlier_rows = EarlierRows::Unknown;
        let database = sqlite3::open(path, keep)
            .map_err(OpenError::from)
            .and_then(|mut opened| {
                earlier_rows = EarlierRows::of(opened.session.as_mut());
                Database::open(opened, size, args.db_checkout_timeout, lease_for)
            })
            .map_err(|error| no_database(&args.database, error))?;
        *opened = Some(Arc::clone(&database));
        let max_connections = match args.front {
            FrontDoor::Puma => descriptors::for_the_app(limit, size, args.max_connections)?,
            // tiny_http does not limit connections.
            FrontDoor::TinyHttp => usize::MAX,
        };
        let settings = StreamSettings {
            retry: args.retry,
            max_age: args.max_stream_age.0,
            max_age_jitter: args.max_stream_age_jitter,
            cap: args.stream_cap.0,
            notice_close: match args.notice_close {
                Notice::Write => NoticeClose::ByWrite,
                Notice::Poll => NoticeClose::ByPoll,
            },
        };
        let live = Arc::new(Streams::new(&settings, Arc::clone(&timeline)));
        // An address is not a name that a page of another site could point here. Loopback
        // addresses are admitted in any case.
        let bound = [args.bind, args.control_url].map(|address| address.ip().to_canonical());
        let bound =
            bound.iter().filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).map(IpAddr::to_string);
        let hosts = HostAuthorization::new(args.allow_host.iter().cloned().chain(bound).collect());

        let servers = RunningServers::default();
        let settings = AppSettings {
            stream_loop: match args.stream_loop {
                StreamLoop::ById => Loop::ById,
                StreamLoop::Faithful => Loop::Faithful,
            },
            update_rate: args.update_rate,
            keep_models: args.keep_models,
            threads: max,
            max_io_threads: args.max_io_threads,
            streams_at: args.streams_at.clone(),
            allowed_origins: args.allow_origin.clone(),
            servers: servers.clone(),
        };
        let rails = Rails::new(settings, Arc::clone(&database), Arc::clone(&live), views, hosts.clone());
        let broadcaster = Broadcaster::start(
            &database,
            &services,
            args.push_buffer.map_or(PUSH_BUFFER, |bytes| bytes as usize),
            args.write_timeout,
        )?;
        let broadcaster = Arc::new(broadcaster);
        let lull = Arc::<Lull>::default();
        let server = Told {
            threads: max,
            max_io_threads: args.max_io_threads,
            streams_at: args.streams_at.clone(),
            can_detach: args.front == FrontDoor::Puma,
            update_rate: args.update_rate,
            database: args.database.clone(),
            lull: Arc::clone(&lull),
            servers: servers.clone(),
        };
        let fixes = Fixes::new(
            rails,
            Arc::clone(&database),
            Arc::clone(&live),
            Arc::clone(&broadcaster),
            server,
            args.views.as_deref(),
        )
        .map_err(no_views)?;
        let app: Arc<dyn App> = Arc::new(move |request: &Request| fixes.call(request));
        let actions_on = match args.live {
            LiveModel::Pool => ActionsOn::PoolThread,
            LiveModel::Rails => ActionsOn::OwnThread,
        };
        let threads = args.threads.min()..=max;
        let app = match args.front {
            FrontDoor::Puma => {
                let server = Server::bind(args.bind)
                    .threads(threads)
                    .max_io_threads(args.max_io_threads)
                    .write_timeout(args.write_timeout)
                    .max_answer_time(args.max_answer_time.map_or(Some(default::MAX_ANSWER_TIME), |it| it.0))
                    .auto_trim_time(args.auto_trim_time)
                    .max_body_bytes(args.max_body_bytes)
                    .first_data_timeout(args.first_data_timeout.unwrap_or(default::FIRST_DATA_TIMEOUT))
                    .head_timeout(args.head_timeout.unwrap_or(default::HEAD_TIMEOUT))
                    .persistent_timeout(args.persistent_timeout.unwrap_or(default::PERSISTENT_TIMEOUT))
                    .max_head_bytes(
                        args.max_head_bytes.map_or(default::MAX_HEAD_BYTES, |bytes| bytes as usize),
                    )
                    .max_pending_bytes(args.max_pending_bytes.map_or(default::MAX_PENDING_BYTES, in_memory))
                    .max_connections(max_connections)
                    .tcp_user_timeout(args.tcp_user_timeout.0)
                    .streams(Arc::clone(&live))
                    .actions_on(actions_on)
                    .reap_every(args.reap_every)
                    .record(Arc::clone(&timeline))
                    .services(services.clone());
                server.start_shared(app).map(AppServer::Puma)
            }
            FrontDoor::TinyHttp => {
                let settings = TinyHttpSettings {
                    threads,
                    max_io_threads: args.max_io_threads,
                    auto_trim_time: args.auto_trim_time,
                    write_timeout: args.write_timeout,
                    max_body_bytes: args.max_body_bytes,
                    tcp_user_timeout: args.tcp_user_timeout.0,
                    reap_every: args.reap_every,
                    actions_on,
                    services: services.clone(),
                    ..TinyHttpSettings::new(args.bind)
                };
                let server = TinyHttpServer::start(&settings, Arc::clone(&live), Arc::clone(&timeline), app);
                server.map(AppServer::TinyHttp)
            }
        };
        let app = Arc::new(app.map_err(|error| not_started("--bind", error))?);

        let asked = args.max_connections;
        let growth = (args.db_pool == OrAuto(None)).then(|| Growth {
            beyond: args.max_io_threads,
            room: Box::new(move |size| {
                descriptors::for_the_app(limit, size, asked).map_err(|error| error.to_string())
            }),
        });
        let (stop, stops) = orders;
        let beside = Arc::new(Beside::new(second_server::settings(args, path)));
        let parts = ServerParts {
            server: Arc::clone(&app),
            live: Arc::clone(&live),
            database: Arc::clone(&database),
            broadcaster: Arc::clone(&broadcaster),
            timeline: Arc::clone(&timeline),
            services: services.clone(),
        };
        let control = Control::new(
            Guard::new(hosts, args.control_token.0.clone())?,
            pages,
            View::new(parts, &command_line::typed(), Arc::clone(&beside)),
            stop,
            growth,
        );
        let control = control.map_err(|error| not_started("--control-url", error.into()))?;
        // The control server shows the record of the app's server. Its own requests are not recorded there.
        let control = Server::bind(args.control_url)
            .name("puma ctl")
            .threads(control::THREADS)
            .write_timeout(control::WRITE_TIMEOUT)
            .max_connections(CONTROL_CONNECTIONS)
            // Orders are in the query. A slow body must not hold one of these few threads.
            .max_body_bytes(0)
            .without_reaper()
            .services(services.clone())
            .start(move |request| control.call(request))
            .map_err(|error| not_started("--control-url", error))?;
        let pool = Arc::downgrade(&app);
        servers.set(Started {
            app: app.addr(),
            control: control.addr(),
            needs_token: args.control_token.0.is_some(),
            // The server has the app, which has these facts: a counted reference would keep both forever.
            threads: Box::new(move || pool.upgrade().map(|server| server.size().max())),
        });
        beside.listens_at(control.addr().port());

        let outside_writers = Some(OutsideWriters::watch(&database, &services)?);
        let produce = |every| Producer::start(&database, &services, every, args.keep_models, lull);
        let producer = args.produce_every.0.map(produce).transpose()?;
        Ok(Running {
            state: None,
            trace: None,
            producer,
            outside_writers,
            control,
            app,
            beside,
            stops,
            live,
            broadcaster,
            database,
            timeline,
            services,
            earlier_rows,
        })
    }

    /// Writes the state file and begins the trace. Each may fail at its first byte. One that replaces nothing,
    /// because it is a device or pipe, is therefore written first; otherwise the trace comes last. A start that is
    /// refused leaves both as they were.
    fn begin(&mut self, written: Written, args: &ServeArgs) -> Result<(), BootError> {
        let Written { state, mut trace } = written;
        let has_old = |(_, reserved): &(PathBuf, ReservedFile)| !reserved.is_special();
        if state.as_ref().is_some_and(has_old) {
            self.begin_trace(trace.take_if(|(_, prepared)| prepared.is_special()))?;
        }
        if let Some((path, reserved)) = state {
            let token = args.control_token.0.as_ref().map(Token::reveal);
            let state = StateFile::write(reserved, self.app.addr(), self.control.addr(), token);
            self.state = Some(state.map_err(|error| BootError::State { path, error })?);
        }
        self.begin_trace(trace)
    }

    fn begin_trace(&mut self, trace: Option<(PathBuf, PreparedOutput)>) -> Result<(), BootError> {
        if let Some((path, prepared)) = trace {
            let trace = TraceFile::start(&path, prepared, Arc::clone(&self.timeline), Arc::clone(&self.app));
            self.trace = Some(trace.map_err(|error| BootError::Trace { path, error })?);
        }
        Ok(())
    }

    /// Stops accepting, ends every stream, waits at most this long for running requests, and closes the database.
    /// Returns `AtOnce` if an order to halt arrived in the meantime.
    pub fn stop(&mut self, force_shutdown_after: Duration) -> Stop {
        // The limit of a day keeps the clock from overflowing.
        let deadline = Instant::now() + force_shutdown_after.min(Duration::from_secs(86_400));
        self.app.stop_accepting();
        self.beside.end("this server stops");
        let told = self.live.stop();
        if told > 0 {
            log::info!("{told} streams were ended, and their clients reconnect");
        }
        self.broadcaster.stop(deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        match self.shut_the_app_down(left) {
            None => return Stop::AtOnce,
            Some(Shutdown::Abandoned { threads }) => {
                log::warn!(
                    "{threads} threads were still busy after {force_shutdown_after:?}, and are abandoned"
                );
            }
            Some(Shutdown::Drained | Shutdown::Forced) => {}
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

    /// Blocks until every listener has got its last message, or until an order to halt.
    fn await_goodbyes(&self) -> Stop {
        loop {
            select! {
                recv(self.broadcaster.ended()) -> _ => return Stop::Gracefully,
                recv(self.stops) -> stop => match stop {
                    Ok(Stop::Gracefully) => {}
                    Ok(Stop::AtOnce) => return Stop::AtOnce,
                    Err(_) => {
                        // The channel is disconnected when all have been sent.
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
            log::warn!("{error}; a halt waits for the end of the stop");
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

    /// Ends without notice to the clients. Only the control server completes its responses, one of which answers the
    /// order to halt.
    pub fn halt(mut self) {
        self.beside.end("this server stops");
        self.control.shutdown(CONTROL_GRACE);
        drop(self.trace.take());
        // Its end would wait for the database.
        mem::forget(self.producer.take());
    }
}

/// Binds both addresses for a moment, without listening, since the servers would bind them too late.
fn refuse_what_is_in_use(addresses: [(&'static str, SocketAddr); 2]) -> Result<(), BootError> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into()).map(|()| socket)
    };
    let bound = addresses.map(|(flag, address)| match bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(BootError::AddressInUse { flag, address })
        }
        other => Ok(other),
    });
    bound.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
}

fn not_started(flag: &'static str, error: StartError) -> BootError {
    match error {
        StartError::AddressInUse(address) => BootError::AddressInUse { flag, address },
        error => BootError::Server { flag, error },
    }
}

/// A number of bytes, at most what memory can hold.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn no_database(path: &Path, error: OpenError) -> BootError {
    match error {
        OpenError::Pool { size, opened, error } => BootError::DatabasePool { size, opened, error },
        error => BootError::Database { path: path.to_owned(), error },
    }
}
