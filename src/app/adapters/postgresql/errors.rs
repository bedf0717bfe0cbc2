//! The meaning of PostgreSQL's errors.

use std::error::Error;

use tokio_postgres::error::{DbError, SqlState};

use super::super::{EngineCause, Failure};

/// What to do if no id is left.
const LOWER_THE_IDS: &str =
    "restart the sequence models_numbers at a lower number, after deleting the models above it";

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => of_code(answer),
            // Without an answer, the connection was lost, or the answer makes no sense.
            None if error.is_closed() || has_io_cause(&error) => Failure::Lost(in_full(&error)),
            None => Failure::Refused(in_full(&error)),
        }
    }
}

/// The failure of a connection attempt. Whatever the reason, no query was sent.
pub(super) fn not_connected(error: tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(answer) if *answer.code() == SqlState::TOO_MANY_CONNECTIONS => {
            Failure::Full(text(answer).into())
        }
        Some(answer) => Failure::Lost(text(answer).into()),
        None => Failure::Lost(in_full(&error)),
    }
}

fn of_code(answer: &DbError) -> Failure {
    let code = answer.code();
    let is_lost = code.code().starts_with("08")
        || [
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            // A former primary.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code);
    let cause: EngineCause = text(answer).into();
    if is_lost {
        return Failure::Lost(cause);
    }
    match *code {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => Failure::Busy(cause),
        SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED => Failure::OutOfIds { remedy: LOWER_THE_IDS },
        _ if code.code().starts_with("53") => Failure::Exhausted(cause),
        _ => Failure::Refused(cause),
    }
}

fn text(answer: &DbError) -> String {
    format!("{} (SQLSTATE {})", answer.message(), answer.code().code())
}

fn has_io_cause(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

/// The error and its causes in one line.
fn in_full(error: &tokio_postgres::Error) -> EngineCause {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.into()
}
