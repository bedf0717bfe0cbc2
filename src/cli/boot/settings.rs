//! Converts the arguments of `serve` to the settings of each part.

use std::net::IpAddr;
use std::sync::Arc;

use ninetabs_server::streams::{NoticeClose, StreamSettings};

use crate::app::database::LeaseFor;
use crate::app::host_authorization::HostAuthorization;
use crate::app::producer::Lull;
use crate::app::servers::RunningServers;
use crate::app::{AppSettings, Loop};
use crate::cli::serve_args::{DbLease, FrontDoor, Notice, ServeArgs, StreamLoop};
use crate::fixes::Told;

pub fn of_streams(args: &ServeArgs) -> StreamSettings {
    StreamSettings {
        retry: args.retry,
        max_age: args.max_stream_age.0,
        max_age_jitter: args.max_stream_age_jitter,
        cap: args.stream_cap.0,
        notice_close: match args.notice_close {
            Notice::Write => NoticeClose::ByWrite,
            Notice::Poll => NoticeClose::ByPoll,
        },
    }
}

pub fn of_app(args: &ServeArgs, servers: &RunningServers) -> AppSettings {
    AppSettings {
        stream_loop: match args.stream_loop {
            StreamLoop::ById => Loop::ById,
            StreamLoop::Faithful => Loop::Faithful,
        },
        update_rate: args.update_rate,
        keep_models: args.keep_models,
        threads: args.threads.max(),
        max_io_threads: args.max_io_threads,
        streams_at: args.streams_at.clone(),
        allowed_origins: args.allow_origin.clone(),
        servers: servers.clone(),
    }
}

pub fn of_fixes(args: &ServeArgs, servers: &RunningServers, lull: &Arc<Lull>) -> Told {
    Told {
        threads: args.threads.max(),
        max_io_threads: args.max_io_threads,
        streams_at: args.streams_at.clone(),
        can_detach: args.front == FrontDoor::Puma,
        update_rate: args.update_rate,
        database: args.database.clone(),
        lull: Arc::clone(lull),
        servers: servers.clone(),
    }
}

/// The hosts whose requests both servers accept.
pub fn hosts(args: &ServeArgs) -> HostAuthorization {
    // A bound address can be admitted, because another site cannot make an address lead here as it can
    // a name. Loopback addresses are admitted in any case.
    let bound = [args.bind, args.control_url].map(|address| address.ip().to_canonical());
    let bound = bound.iter().filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).map(IpAddr::to_string);
    HostAuthorization::new(args.allow_host.iter().cloned().chain(bound).collect())
}

/// The duration of a database lease.
pub fn lease(args: &ServeArgs) -> LeaseFor {
    match args.db_lease {
        DbLease::Action => LeaseFor::Action,
        DbLease::Query => LeaseFor::Query,
    }
}
