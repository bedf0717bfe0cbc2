//! The ways out: each cure of the nine tabs as a file that one can read, and a page on
//! which one can try it.
//!
//! A fix is a `Fix`: its name, its view, and the action behind `/fixes/NAME/…`. It stands on
//! the app as any controller would, and on nothing that the app has not. All of them are
//! registered in `ALL`; a new one is a file here, a line there, and a template.
//!
//! The pages say the same things in the same order: the idea, the thing at work, what it
//! costs, which system it models, and how one says it in Rails. No page changes its server.

mod cap;
mod io_threads;
mod more_threads;
mod poll;
mod reaper;
mod shared_worker;
mod short_stream;

use std::path::Path;
use std::sync::Arc;

use minijinja::{Value, context};

use crate::app::Rails;
use crate::app::content_security_policy::ContentSecurityPolicy;
use crate::app::database::Database;
use crate::app::models_controller::BATCH;
use crate::app::templates::{Source, Templates, ViewsError};
use crate::live::Live;
use crate::puma::{Request, Response};

/// Every fix, in the order of the list that `/fixes` shows.
const ALL: &[Fix] = &[
    reaper::FIX,
    more_threads::FIX,
    cap::FIX,
    io_threads::FIX,
    short_stream::FIX,
    shared_worker::FIX,
    poll::FIX,
];

/// What all pages stand in.
const FRAME: &[Source] = &[
    ("application.css", include_str!("../../views/application.css")),
    ("fixes/configured.html", include_str!("../../views/fixes/configured.html")),
    ("fixes/fixes.css", include_str!("../../views/fixes/fixes.css")),
    ("fixes/index.html", include_str!("../../views/fixes/index.html")),
    ("fixes/layout.html", include_str!("../../views/fixes/layout.html")),
    ("fixes/models.js", include_str!("../../views/fixes/models.js")),
];

/// One cure.
struct Fix {
    /// Its name in paths.
    name: &'static str,
    /// What it does, in half a sentence.
    does: &'static str,
    view: Source,
    /// Whether this server has it: those that are flags are not there otherwise.
    is_on: fn(&Fixes) -> bool,
    /// Whether its page starts a worker.
    has_worker: bool,
    /// Answers what is asked for below its page; None: there is no such thing.
    action: fn(&Fixes, &Request, &str) -> Option<Response>,
}

/// What a fix need not say of itself.
const PLAIN: Fix =
    Fix { name: "", does: "", view: ("", ""), is_on: |_| true, has_worker: false, action: |_, _, _| None };

/// What the server was told at its start, as far as a page shows it.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The most threads.
    pub threads: usize,
    pub max_io_threads: usize,
}

/// The app with its fixes.
pub struct Fixes {
    rails: Rails,
    database: Arc<Database>,
    live: Arc<Live>,
    server: Told,
    templates: Templates,
    shared: poll::Shared,
}

impl Fixes {
    /// Puts them around the app; their views are the embedded ones, or those of a folder, which
    /// must have all of them or no room for them at all.
    pub fn new(
        rails: Rails,
        database: Arc<Database>,
        live: Arc<Live>,
        server: Told,
        folder: Option<&Path>,
    ) -> Result<Fixes, ViewsError> {
        let views: Vec<Source> = FRAME.iter().copied().chain(ALL.iter().map(|fix| fix.view)).collect();
        let folder = folder.filter(|folder| folder.join("fixes").is_dir());
        let templates = Templates::new(&views, folder)?;
        Ok(Fixes { rails, database, live, server, templates, shared: poll::Shared::default() })
    }

    /// Answers a request, on the thread that it is called on: below `/fixes` here, and by the
    /// app anywhere else.
    pub fn call(&self, request: &Request) -> Response {
        let Some(below) = request.path().strip_prefix("/fixes") else { return self.rails.call(request) };
        if let Err(refusal) = self.rails.check_host(request) {
            return refusal;
        }
        if !matches!(&*request.method, "GET" | "HEAD") {
            return Response::status(404);
        }
        let answer = match below.strip_prefix('/').map(|below| below.split_once('/').unwrap_or((below, ""))) {
            None if below.is_empty() => Some(self.index()),
            None => None,
            Some((name, rest)) => ALL.iter().find(|fix| fix.name == name).and_then(|fix| match rest {
                "" => Some(self.page(fix)),
                rest => (fix.action)(self, request, rest),
            }),
        };
        answer.unwrap_or_else(|| Response::status(404))
    }

    fn index(&self) -> Response {
        let fixes: Vec<Value> =
            ALL.iter().map(|fix| context! { name => fix.name, does => fix.does }).collect();
        self.show("fixes/index.html", false, context! { fixes })
    }

    fn page(&self, fix: &Fix) -> Response {
        self.show(
            fix.view.0,
            fix.has_worker,
            context! {
                name => fix.name,
                does => fix.does,
                is_on => (fix.is_on)(self),
                batch => BATCH,
                cap => self.live.cap(),
                max_age => self.live.max_age().map(|age| age.as_secs_f64()),
                threads => self.server.threads,
                max_io_threads => self.server.max_io_threads,
            },
        )
    }

    fn show(&self, view: &str, workers: bool, more: Value) -> Response {
        let policy = ContentSecurityPolicy { workers, ..Default::default() };
        self.templates.page(view, &policy, more)
    }
}
