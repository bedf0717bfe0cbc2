//! `psql` on the private PostgreSQL: programs that write and read beside the servers.
//!
//! Their standard error is the log of the engine, so the cause of a failed statement is found there.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select, unbounded};
use ninetabs_server::threads;

use super::super::interrupt::Interrupt;
use super::super::program::Program;
use super::engine_user::USER;
use super::postgres::{DATABASE, PostgresError, PrivatePostgres, ROLE, last_words};

/// How long a statement may take.
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The line after each answer.
const END_OF_ANSWER: &str = ".";

/// A running `psql`. It is killed when this is dropped.
#[derive(Debug)]
struct Psql {
    program: Program,
    path: PathBuf,
    log: PathBuf,
}

impl Psql {
    fn start(
        postgres: &PrivatePostgres,
        role: &str,
        set: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Psql, PostgresError> {
        let (path, log) = (postgres.program("psql"), postgres.log());
        let file = OpenOptions::new().create(true).append(true).open(&log).map_err(PostgresError::Prepare)?;
        let mut command = postgres.command("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", DATABASE, "-h"]);
        command.arg(postgres.sockets()).stdin(Stdio::piped()).stderr(file);
        match Program::start(set(&mut command)) {
            Ok(program) => Ok(Psql { program, path, log }),
            Err(error) => Err(PostgresError::NotRun { program: path, error }),
        }
    }

    fn not_run(&self, error: io::Error) -> PostgresError {
        PostgresError::NotRun { program: self.path.clone(), error }
    }

    fn ended(&self, status: ExitStatus) -> PostgresError {
        PostgresError::Ended { program: self.path.clone(), status, said: last_words(&self.log) }
    }

    fn not_ready(&self) -> PostgresError {
        PostgresError::NotReady { program: self.path.clone() }
    }
}

/// A `psql` that runs a script.
#[derive(Debug)]
pub struct PsqlScript(Psql);

impl PsqlScript {
    /// Starts it, as the role of the servers. Its first error ends it.
    pub fn start(postgres: &PrivatePostgres, script: &str) -> Result<PsqlScript, PostgresError> {
        PsqlScript::start_as(ROLE, postgres, script)
    }

    fn start_as(role: &str, postgres: &PrivatePostgres, script: &str) -> Result<PsqlScript, PostgresError> {
        let mut psql = Psql::start(postgres, role, |command| command.stdout(Stdio::null()))?;
        if let Some(mut stdin) = psql.program.child().stdin.take() {
            // If it does not read, its status and the log say why.
            let _ = stdin.write_all(script.as_bytes());
        }
        Ok(PsqlScript(psql))
    }

    /// Whether it has run the whole script. Does not block.
    pub fn is_done(&mut self) -> Result<bool, PostgresError> {
        match self.0.program.status().map_err(|error| self.0.not_run(error))? {
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.0.ended(status)),
            None => Ok(false),
        }
    }

    /// Blocks until it has run the whole script, for at most 60 s, or until the interrupt.
    fn finish(mut self, interrupt: &Interrupt) -> Result<(), PostgresError> {
        let deadline = Instant::now() + STATEMENT_WITHIN;
        while !self.is_done()? {
            if Instant::now() >= deadline {
                return Err(self.0.not_ready());
            }
            interrupt.sleep(LOOK_EVERY)?;
        }
        Ok(())
    }
}

/// A `psql` that answers one query after the other.
#[derive(Debug)]
pub struct PsqlSession {
    psql: Psql,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl PsqlSession {
    /// Starts it, as the role of the servers.
    pub fn start(postgres: &PrivatePostgres) -> Result<PsqlSession, PostgresError> {
        PsqlSession::start_as(ROLE, postgres)
    }

    fn start_as(role: &str, postgres: &PrivatePostgres) -> Result<PsqlSession, PostgresError> {
        let mut psql =
            Psql::start(postgres, role, |command| command.args(["-A", "-t"]).stdout(Stdio::piped()))?;
        let stdin = psql.program.child().stdin.take();
        let (send, lines) = unbounded();
        if let Some(stdout) = psql.program.child().stdout.take() {
            // The thread ends with the program, whose end closes the pipe.
            let read = move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.for_each(|line| drop(send.send(line)));
            };
            threads::spawn("psql", read).map_err(|error| psql.not_run(error.into()))?;
        }
        Ok(PsqlSession { psql, stdin, lines })
    }

    /// The numbers that a query returns, one per row. Blocks until it is answered, for at most 60 s, or until the
    /// interrupt. The session cannot be used after an error.
    pub fn numbers(&mut self, query: &str, interrupt: &Interrupt) -> Result<Vec<i64>, PostgresError> {
        if let Some(stdin) = &mut self.stdin {
            // If the program has ended, its lines end as well.
            let _ = stdin.write_all(format!("{query};\n\\echo {END_OF_ANSWER}\n").as_bytes());
        }
        let deadline = after(STATEMENT_WITHIN);
        let mut numbers = Vec::new();
        loop {
            let line = select! {
                recv(self.lines) -> line => line,
                recv(interrupt.receiver()) -> _ => return Err(PostgresError::Interrupted),
                recv(deadline) -> _ => return Err(self.psql.not_ready()),
            };
            match line {
                Ok(line) if line == END_OF_ANSWER => return Ok(numbers),
                Ok(line) => numbers.extend(line.parse::<i64>()),
                Err(_) => {
                    let status = self.psql.program.kill().map_err(|error| self.psql.not_run(error))?;
                    return Err(self.psql.ended(status));
                }
            }
        }
    }
}

impl PrivatePostgres {
    /// Runs a statement as the superuser. Blocks until it has ended, for at most 60 s, or until the interrupt.
    pub fn execute(&self, statement: &str, interrupt: &Interrupt) -> Result<(), PostgresError> {
        PsqlScript::start_as(USER, self, statement)?.finish(interrupt)
    }

    /// The numbers that a query of the superuser returns, on a connection of its own. Blocks until it is answered, for
    /// at most 60 s, or until the interrupt.
    pub fn ask(&self, query: &str, interrupt: &Interrupt) -> Result<Vec<i64>, PostgresError> {
        PsqlSession::start_as(USER, self)?.numbers(query, interrupt)
    }
}
