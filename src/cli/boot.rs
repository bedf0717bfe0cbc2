//! Starts the parts of `serve`, and stops them in order.
//!
//! Only this module has access to all parts: it passes the app and the streams to the server, and everything that
//! the dashboard shows or changes to the control server.

mod app_server;
mod database;
mod error;
mod settings;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use ninetabs_server::services::Services;
use ninetabs_server::streams::Streams;
use ninetabs_server::timeline::{Timeline, What};
use ninetabs_server::{App, Handle, Request, Server};
use socket2::{Domain, Socket, Type};

use super::command_line;
use super::descriptors::{self, CONTROL_CONNECTIONS};
use super::earlier_rows::EarlierRows;
use super::files::check_database;
use super::files::claimed::Claimed;
use super::files::output::PreparedOutput;
use super::files::whole::ReservedFile;
use super::second_server;
use super::serve_args::{FrontDoor, ServeArgs};
use super::state_file::StateFile;
use super::storage::Storage;
use super::trace_file::TraceFile;
use super::values::OrAuto;
use crate::app::Rails;
use crate::app::broadcaster::{Broadcaster, PUSH_BUFFER};
use crate::app::database::{Database, OpenError};
use crate::app::outside_writers::OutsideWriters;
use crate::app::producer::{Lull, Producer};
use crate::app::servers::{RunningServers, Started};
use crate::app::views::Views;
use crate::control::{self, Beside, Control, Growth, Guard, Pages, ServerParts, Stop, Token, View};
use crate::fixes::Fixes;
use crate::front::AppServer;
pub use error::BootError;

/// The maximum time to stop the app if a start fails after the app has started.
const REFUSAL_GRACE: Duration = Duration::from_millis(500);
/// The channel of orders to end the process.
pub type Orders = (Sender<Stop>, Receiver<Stop>);

/// The files of `--state` and `--trace`. They have been found to be writable, and have not been changed yet.
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

/// All running parts. [`Running::stop`] stops them in order.
pub struct Running {
    /// The state file. `serve` moves it out of this struct, so that the file is removed even if the rest of a stop
    /// is blocked.
    pub state: Option<StateFile>,
    trace: Option<TraceFile>,
    producer: Option<Producer>,
    outside_writers: Option<OutsideWriters>,
    pub control: Handle,
    pub app: Arc<AppServer>,
    /// The second server of the wall.
    beside: Arc<Beside>,
    /// Receives the orders to stop that the control server was sent.
    pub stops: Receiver<Stop>,
    live: Arc<Streams>,
    broadcaster: Arc<Broadcaster>,
    database: Arc<Database>,
    timeline: Arc<Timeline>,
    /// The service threads. They report when one of them ends unexpectedly.
    pub services: Services,
    pub earlier_rows: EarlierRows,
}

impl Running {
    /// Starts all parts, each one after the parts that it uses.
    pub fn start(args: &ServeArgs, storage: &Storage, orders: Orders) -> Result<Running, BootError> {
        // Checked first, so that a start that fails because of a path or a port does not leave a database behind.
        let bound = refuse_what_is_in_use([("--bind", args.bind), ("--control-url", args.control_url)])?;
        let reserved = ReservedPort::of(args, storage, bound);
        let args = &reserved.args(args);
        let written = Written::reserve(args)?;
        if let Some(path) = storage.file()
            && let Err(error) = check_database(path)
        {
            return Err(BootError::NoDatabase { path: path.to_owned(), error });
        }
        let claimed = storage.file().map(Claimed::at);
        let mut opened = None;
        let started =
            Running::start_on(args, storage, orders, &mut opened, reserved).and_then(|mut running| {
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
            claimed.into_iter().for_each(Claimed::remove);
        }
        started
    }

    /// Starts all parts except the state file and the trace. The opened database is stored in `opened`, even if a later
    /// step fails.
    fn start_on(
        args: &ServeArgs,
        storage: &Storage,
        orders: Orders,
        opened: &mut Option<Arc<Database>>,
        reserved: ReservedPort,
    ) -> Result<Running, BootError> {
        let limit = descriptors::raise_limit();
        let max = args.threads.max();
        let timeline = Arc::new(Timeline::default());
        let services = Services::default();
        let no_views = |error| BootError::Views { folder: args.views.clone().unwrap_or_default(), error };
        let views = Views::new(args.views.as_deref()).map_err(no_views)?;
        let pages = Pages::new(args.views.as_deref()).map_err(no_views)?;
        let size = args.db_pool.0.unwrap_or(max + args.max_io_threads);
        let mut earlier_rows = EarlierRows::Unknown;
        let database = database::open(args, storage)
            .map_err(OpenError::from)
            .and_then(|mut opened| {
                earlier_rows = EarlierRows::of(opened.session.as_mut());
                Database::open(opened, size, args.db_checkout_timeout, settings::lease(args))
            })
            .map_err(|error| BootError::of_database(&args.database, size, error))?;
        *opened = Some(Arc::clone(&database));
        // Besides the pool: one to read, one to listen, and one for the producer.
        let needed = size + 2 + usize::from(args.produce_every.0.is_some());
        let accepted = |opened: usize| move |error: BootError| error.with_connections(size, opened, needed);
        let per_connection = storage.descriptors();
        let max_connections = match args.front {
            FrontDoor::Puma => {
                descriptors::for_the_app(limit, per_connection.saturating_mul(size), args.max_connections)?
            }
            // tiny_http does not limit connections.
            FrontDoor::TinyHttp => usize::MAX,
        };
        let live = Arc::new(Streams::new(&settings::of_streams(args), Arc::clone(&timeline)));
        let hosts = settings::hosts(args);
        let servers = RunningServers::default();
        let rails = Rails::new(
            settings::of_app(args, &servers),
            Arc::clone(&database),
            Arc::clone(&live),
            views,
            hosts.clone(),
        );
        let broadcaster = Broadcaster::start(
            &database,
            &services,
            args.push_buffer.map_or(PUSH_BUFFER, |bytes| bytes as usize),
            args.write_timeout,
        );
        let broadcaster = broadcaster.map_err(BootError::from).map_err(accepted(size))?;
        let broadcaster = Arc::new(broadcaster);
        let lull = Arc::<Lull>::default();
        let fixes = Fixes::new(
            rails,
            Arc::clone(&database),
            Arc::clone(&live),
            Arc::clone(&broadcaster),
            settings::of_fixes(args, &servers, &lull),
            args.views.as_deref(),
        )
        .map_err(no_views)?;
        let app: Arc<dyn App> = Arc::new(move |request: &Request| fixes.call(request));
        drop(reserved);
        let app = app_server::start(args, max_connections, app, &live, &timeline, &services)?;
        let app = Arc::new(app);

        let asked = args.max_connections;
        let growth = (args.db_pool == OrAuto(None)).then(|| Growth {
            beyond: args.max_io_threads,
            room: Box::new(move |size| {
                let descriptors = per_connection.saturating_mul(size);
                descriptors::for_the_app(limit, descriptors, asked).map_err(|error| error.to_string())
            }),
        });
        let (stop, stops) = orders;
        let beside = Arc::new(Beside::new(second_server::settings(args, storage)));
        let parts = ServerParts {
            server: Arc::clone(&app),
            live: Arc::clone(&live),
            database: Arc::clone(&database),
            broadcaster: Arc::clone(&broadcaster),
            timeline: Arc::clone(&timeline),
            services: services.clone(),
        };
        let control = Control::new(
            Guard::new(hosts, args.control.token.0.clone())?,
            pages,
            View::new(parts, &command_line::typed(), Arc::clone(&beside)),
            stop,
            growth,
        );
        let control = control.map_err(|error| BootError::of_server("--control-url", error.into()))?;
        // The control server shows the event log of the app's server. Its own requests are not recorded in that
        // log.
        let control = Server::bind(args.control_url)
            .name("puma ctl")
            .threads(control::THREADS)
            .write_timeout(control::WRITE_TIMEOUT)
            .max_connections(CONTROL_CONNECTIONS)
            // Orders are in the query, so bodies are not needed. A slow body must not hold one of the few threads.
            .max_body_bytes(0)
            .without_reaper()
            .services(services.clone())
            .start(move |request| control.call(request))
            .map_err(|error| BootError::of_server("--control-url", error))?;
        let pool = Arc::downgrade(&app);
        servers.set(Started {
            app: app.addr(),
            control: control.addr(),
            needs_token: args.control.token.0.is_some(),
            // The server owns the app, and the app has these facts. A strong reference to the server would
            // therefore keep both alive forever.
            threads: Box::new(move || pool.upgrade().map(|server| server.size().max())),
        });
        beside.listens_at(control.addr().port());

        let hear = {
            let broadcaster = Arc::clone(&broadcaster);
            move |name: &str, data: &str| broadcaster.hear(name, data)
        };
        let note = {
            let timeline = Arc::clone(&timeline);
            move |text| timeline.record(None, None, What::Database { text })
        };
        let outside_writers = OutsideWriters::watch(&database, &services, hear, note);
        let outside_writers = outside_writers.map_err(BootError::from).map_err(accepted(size + 1))?;
        let produce = |every| Producer::start(&database, &services, every, args.keep_models, lull);
        let producer = args.produce_every.0.map(produce).transpose();
        let producer = producer.map_err(BootError::from).map_err(accepted(size + 2))?;
        Ok(Running {
            state: None,
            trace: None,
            producer,
            outside_writers: Some(outside_writers),
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

    /// Writes the state file and begins the trace. Either may fail at its first write, and a failed start must
    /// leave both files as they were. A trace to a device or pipe does not replace anything, so it is begun before
    /// a state file that replaces an old one. Otherwise the trace is begun last.
    fn begin(&mut self, written: Written, args: &ServeArgs) -> Result<(), BootError> {
        let Written { state, mut trace } = written;
        let has_old = |(_, reserved): &(PathBuf, ReservedFile)| !reserved.is_special();
        if state.as_ref().is_some_and(has_old) {
            self.begin_trace(trace.take_if(|(_, prepared)| prepared.is_special()))?;
        }
        if let Some((path, reserved)) = state {
            let token = args.control.token.0.as_ref().map(Token::reveal);
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
}

/// The port that the system has chosen for `--bind` with port 0, if the database is a server. Each connection to the
/// database carries the address of the app, and those connections are opened before the app listens. The port is free
/// again once this is dropped.
struct ReservedPort(Option<(Socket, SocketAddr)>);

impl ReservedPort {
    fn of(args: &ServeArgs, storage: &Storage, bound: Vec<Option<Socket>>) -> ReservedPort {
        let wanted = args.bind.port() == 0 && storage.file().is_none();
        let socket = bound.into_iter().next().flatten().filter(|_| wanted);
        ReservedPort(socket.and_then(|socket| {
            let address = socket.local_addr().ok()?.as_socket()?;
            Some((socket, address))
        }))
    }

    /// The arguments, with the reserved port.
    fn args(&self, args: &ServeArgs) -> ServeArgs {
        let mut args = args.clone();
        if let ReservedPort(Some((_, address))) = self {
            args.bind = *address;
        }
        args
    }
}

/// Detects whether one of the two addresses is in use, by binding both without listening. The servers themselves bind
/// them only after the database has been created. Returns a socket for each address that could be bound.
fn refuse_what_is_in_use(
    addresses: [(&'static str, SocketAddr); 2],
) -> Result<Vec<Option<Socket>>, BootError> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into()).map(|()| socket)
    };
    let bound = addresses.map(|(flag, address)| match bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(BootError::AddressInUse { flag, address })
        }
        other => Ok(other.ok()),
    });
    bound.into_iter().collect()
}
