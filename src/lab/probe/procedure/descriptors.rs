//! This process's own descriptor limit, which must not be mistaken for a limit of the server.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. If that fails, a run that needs more descriptors reports it.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::warn!("cannot raise the descriptor limit: {error}");
        }
    }
}
