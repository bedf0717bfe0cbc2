//! Starts the server in front of the app: the model of Puma, or tiny_http.

use std::sync::Arc;

use ninetabs_server::configuration as default;
use ninetabs_server::services::Services;
use ninetabs_server::streams::Streams;
use ninetabs_server::timeline::Timeline;
use ninetabs_server::{ActionsOn, App, Server};

use super::BootError;
use crate::cli::serve_args::{FrontDoor, LiveModel, ServeArgs};
use crate::front::tiny_http::TinyHttpSettings;
use crate::front::{AppServer, TinyHttpServer};

/// Starts the server. Only the model of Puma limits connections.
pub fn start(
    args: &ServeArgs,
    max_connections: usize,
    app: Arc<dyn App>,
    live: &Arc<Streams>,
    timeline: &Arc<Timeline>,
    services: &Services,
) -> Result<AppServer, BootError> {
    let (live, timeline) = (Arc::clone(live), Arc::clone(timeline));
    let server = match args.front {
        FrontDoor::Puma => puma(args, max_connections, services)
            .streams(live)
            .record(timeline)
            .start_shared(app)
            .map(AppServer::Puma),
        FrontDoor::TinyHttp => {
            TinyHttpServer::start(&tiny_http(args, services), live, timeline, app).map(AppServer::TinyHttp)
        }
    };
    server.map_err(|error| BootError::of_server("--bind", error))
}

fn puma(args: &ServeArgs, max_connections: usize, services: &Services) -> Server {
    Server::bind(args.bind)
        .threads(args.threads.min()..=args.threads.max())
        .max_io_threads(args.max_io_threads)
        .write_timeout(args.write_timeout)
        .max_answer_time(args.max_answer_time.map_or(Some(default::MAX_ANSWER_TIME), |it| it.0))
        .auto_trim_time(args.auto_trim_time)
        .max_body_bytes(args.max_body_bytes)
        .first_data_timeout(args.first_data_timeout.unwrap_or(default::FIRST_DATA_TIMEOUT))
        .head_timeout(args.head_timeout.unwrap_or(default::HEAD_TIMEOUT))
        .persistent_timeout(args.persistent_timeout.unwrap_or(default::PERSISTENT_TIMEOUT))
        .max_head_bytes(args.max_head_bytes.map_or(default::MAX_HEAD_BYTES, |bytes| bytes as usize))
        .max_pending_bytes(args.max_pending_bytes.map_or(default::MAX_PENDING_BYTES, in_memory))
        .max_connections(max_connections)
        .tcp_user_timeout(args.tcp_user_timeout.0)
        .actions_on(actions_on(args.live))
        .reap_every(args.reap_every)
        .services(services.clone())
}

fn tiny_http(args: &ServeArgs, services: &Services) -> TinyHttpSettings {
    TinyHttpSettings {
        threads: args.threads.min()..=args.threads.max(),
        max_io_threads: args.max_io_threads,
        auto_trim_time: args.auto_trim_time,
        write_timeout: args.write_timeout,
        max_body_bytes: args.max_body_bytes,
        tcp_user_timeout: args.tcp_user_timeout.0,
        reap_every: args.reap_every,
        actions_on: actions_on(args.live),
        services: services.clone(),
        ..TinyHttpSettings::new(args.bind)
    }
}

fn actions_on(live: LiveModel) -> ActionsOn {
    match live {
        LiveModel::Pool => ActionsOn::PoolThread,
        LiveModel::Rails => ActionsOn::OwnThread,
    }
}

/// A number of bytes, at most what memory can hold.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
