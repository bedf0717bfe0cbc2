//! This process's own limit of descriptors, which must not be taken for the server's.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. If that fails, a run that needs more says so.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::warn!("cannot raise the limit of descriptors: {error}");
        }
    }
}
