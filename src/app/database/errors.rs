//! Why the pool could not be opened, and why a checkout, a query or a create failed.

use std::time::Duration;

use thiserror::Error;

use crate::app::adapters::{Failure, Gone};

/// Why a checkout failed.
#[derive(Debug, Error)]
pub enum CheckoutError {
    /// Models ActiveRecord::ConnectionTimeoutError.
    #[error(
        "could not obtain a connection from the pool within {:.3} seconds; all pooled connections were in use",
        .0.as_secs_f64()
    )]
    Timeout(Duration),
    /// The waiting action was interrupted.
    #[error("the wait for a database connection was interrupted")]
    Interrupted,
}

/// Why the pool does not have as many connections as it should have.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The database is ours, but not all connections could be opened.
    #[error("only {opened} of {size} connections could be opened: {error}")]
    Pool { size: usize, opened: usize, error: Failure },
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<Gone> for OpenError {
    fn from(gone: Gone) -> Self {
        OpenError::Failure(gone.into())
    }
}

/// Why a model was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    #[error("cannot create a model: {0}")]
    Gone(#[from] Gone),
    /// No id is left.
    #[error("cannot create a model: {0}")]
    OutOfIds(Failure),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl From<Failure> for CreateError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OutOfIds { .. } => CreateError::OutOfIds(failure),
            failure => CreateError::Query(failure.into()),
        }
    }
}

impl CreateError {
    /// See [`QueryError::is_temporary`].
    pub fn is_temporary(&self) -> bool {
        matches!(self, CreateError::Query(error) if error.is_temporary())
    }
}

/// Why a query failed.
#[derive(Debug, Error)]
pub enum QueryError {
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    #[error("the query failed: {0}")]
    Failure(#[from] Failure),
}

impl QueryError {
    /// Whether the database may answer soon. An exhausted pool does not count: Rails answers with 500 in that case.
    pub fn is_temporary(&self) -> bool {
        matches!(self, QueryError::Failure(failure) if failure.is_temporary())
    }
}
