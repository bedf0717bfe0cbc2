//! The Rails app of the 2016 article "Rails SSE is for discrete push events, not streaming": its routes, in
//! one table.
//!
//! The app is a function of a request ([`Rails::call`]). This module maps paths to actions, as `config/routes.rb`
//! does. It also makes two checks of Rails. Before routing, it refuses requests for hosts that are not ours, except
//! for `/up` (in Rails, a middleware does this). Before a model is created, it refuses forms that were submitted from
//! other origins.

pub mod adapters;
pub mod announcements;
pub mod batch;
pub mod broadcaster;
pub mod browser;
pub mod content_security_policy;
pub mod database;
pub mod database_place;
pub mod embedded;
mod first_sentence;
pub mod host_authorization;
pub mod model;
pub mod models_controller;
pub mod origin;
pub mod outside_writers;
pub mod position;
pub mod producer;
pub mod servers;
mod shorten;
pub mod stream_log;
pub mod streams_access;
pub mod table;
mod table_reader;
pub mod templates;
pub mod views;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ninetabs_server::Streams;
use ninetabs_server::{Request, Response};

use content_security_policy::ContentSecurityPolicy;
use database::Database;
use host_authorization::HostAuthorization;
use models_controller::ModelsController;
use servers::RunningServers;
use streams_access::StreamsAccess;
use views::Views;

/// How a stream finds new models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// By id: no model is lost or sent twice.
    ById,
    /// By time slices, as the original controller does.
    Faithful,
}

/// The app's settings.
#[derive(Debug, Clone)]
pub struct AppSettings {
    pub stream_loop: Loop,
    /// How long a stream sleeps between two queries.
    pub update_rate: Duration,
    /// How many models are kept, the newest first.
    pub keep_models: u64,
    /// The maximum number of threads at the start.
    pub threads: usize,
    /// How many threads may be marked IO-bound. Above 0, each stream marks its thread.
    pub max_io_threads: usize,
    /// The origin of the server that serves the streams of this server's pages; `None`: this server.
    pub streams_at: Option<String>,
    /// Origins whose pages may open streams of this server.
    pub allowed_origins: Vec<String>,
    /// Both servers, once they have started.
    pub servers: RunningServers,
}

/// The path of the app's stream.
const LIVE_STREAM: &str = "/models/live_stream";

/// The app.
pub struct Rails {
    hosts: HostAuthorization,
    streams: StreamsAccess,
    models: ModelsController,
}

impl Rails {
    pub fn new(
        settings: AppSettings,
        database: Arc<Database>,
        live: Arc<Streams>,
        views: Views,
        hosts: HostAuthorization,
    ) -> Self {
        let policy = ContentSecurityPolicy {
            frame_ancestors: hosts.sources(),
            connects: settings.streams_at.iter().cloned().collect(),
            ..Default::default()
        };
        let streams = StreamsAccess::new(settings.allowed_origins.clone());
        Rails { hosts, streams, models: ModelsController { settings, database, live, views, policy } }
    }

    /// Answers a request, on the thread that it is called on.
    pub fn call(&self, request: &Request) -> Response {
        let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
        let path = request.path();
        if (method, path) == ("GET", "/up") {
            // A health check connects by address, so any `Host` is answered.
            return Response::new(StatusCode::OK, "text/html; charset=utf-8", "up\n")
                .with_header("content-security-policy", "default-src 'none'");
        }
        if let Err(refusal) = self.check_host(request) {
            return refusal;
        }
        match (method, path) {
            ("GET", "/") => self.models.index(request),
            ("GET", LIVE_STREAM) => self.streams.answer(request, || self.models.live_stream(request)),
            ("OPTIONS", LIVE_STREAM) => self.streams.preflight(request),
            ("GET", "/models.json") => self.models.since(request),
            ("POST", "/models") => {
                self.hosts.check_origin(request).map_or_else(|no| no, |()| self.models.create(request))
            }
            _ => Response::status(StatusCode::NOT_FOUND),
        }
    }

    /// The app's stream, for a path that is routed by another module.
    pub fn live_stream(&self, request: &Request) -> Response {
        self.models.live_stream(request)
    }

    /// The rule that decides which pages may open streams.
    pub fn streams(&self) -> &StreamsAccess {
        &self.streams
    }

    /// The hosts whose pages may show a page of the app in a frame.
    pub fn framers(&self) -> Vec<String> {
        self.hosts.sources()
    }

    /// Refuses a request for a host that is not ours. Call this before rendering any page.
    pub fn check_host(&self, request: &Request) -> Result<(), Response> {
        self.hosts.check(request)
    }

    /// Refuses a form that was submitted from another origin. Call this before any action that a form can
    /// start.
    pub fn check_origin(&self, request: &Request) -> Result<(), Response> {
        self.hosts.check_origin(request)
    }
}
