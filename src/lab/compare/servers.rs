//! The servers of one row: the one that is measured, and the others on its database.

use std::path::{Path, PathBuf};

use super::super::interrupt::Interrupt;
use super::super::stage::in_seconds;
use super::super::subject::{FREE_PORT, TestedServer};
use super::contenders::Contender;
use super::{CompareError, ComparePlan, THREADS};

/// The servers of one row, and what is needed to restart them.
pub struct Servers<'a> {
    pub plan: &'a ComparePlan,
    pub contender: &'a Contender,
    pub interrupt: &'a Interrupt,
    database: PathBuf,
    pub main: TestedServer,
    /// The server with the streams, if `main` has none.
    streams: Option<TestedServer>,
    /// Another program on the same database, which always has an idle thread.
    pub other: TestedServer,
}

impl Servers<'_> {
    fn flags(plan: &ComparePlan, contender: &Contender) -> Vec<String> {
        let pace = &plan.pace;
        let mut flags = (contender.flags)(plan);
        let mut ours = vec![
            ("--update-rate", in_seconds(pace.update_rate)),
            ("--produce-every", in_seconds(pace.produce_every)),
            ("--retry", in_seconds(pace.retry)),
            ("--keep-models", "1000000".to_owned()),
        ];
        if !flags.iter().any(|flag| flag == "more-threads") {
            ours.push(("--threads", format!("{THREADS}:{THREADS}")));
        }
        flags.extend(ours.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        flags
    }

    pub fn start<'a>(
        plan: &'a ComparePlan,
        contender: &'a Contender,
        folder: &Path,
        interrupt: &'a Interrupt,
    ) -> Result<Servers<'a>, CompareError> {
        let database = folder.join("models.sqlite3");
        let flags = Servers::flags(plan, contender);
        let main = TestedServer::start_at(&plan.program, FREE_PORT, &database, &flags, interrupt)?;
        let rate = in_seconds(plan.pace.update_rate);
        let (retry, threads) = (in_seconds(plan.pace.retry), format!("{THREADS}:{THREADS}"));
        let flags =
            ["--produce-every", "off", "--update-rate", &rate, "--retry", &retry, "--threads", &threads];
        let flags = flags.map(str::to_owned);
        let beside = || TestedServer::start_at(&plan.program, FREE_PORT, &database, &flags, interrupt);
        let streams = contender.has_other_server.then(beside).transpose()?;
        let other = beside()?;
        Ok(Servers { plan, contender, interrupt, database, main, streams, other })
    }

    /// The servers whose threads and queries count as the cost of the fix.
    pub fn measured(&self) -> impl Iterator<Item = &TestedServer> {
        std::iter::once(&self.main).chain(&self.streams)
    }

    /// The server that the tabs listen to.
    pub fn streams(&self) -> &TestedServer {
        self.streams.as_ref().unwrap_or(&self.main)
    }

    /// Stops the main server, and starts it again at its address. Calls `meanwhile` with the other server in between.
    /// Also returns whether the main server stopped by itself.
    pub fn restart(self, meanwhile: impl FnOnce(&TestedServer)) -> Result<(Self, bool), CompareError> {
        let Servers { plan, contender, interrupt, database, main, streams, other } = self;
        let bind = main.bind();
        let ended = main.stop();
        meanwhile(&other);
        let flags = Servers::flags(plan, contender);
        let main = TestedServer::start_at(&plan.program, &bind, &database, &flags, interrupt)?;
        Ok((Servers { plan, contender, interrupt, database, main, streams, other }, ended))
    }
}
