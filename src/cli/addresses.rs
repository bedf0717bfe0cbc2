//! `wall`, `dashboard` and `fixes`: the addresses of the pages of those names.
//!
//! They are pages of a running server and no commands; typed as commands, each prints its address.
//! A line on standard error says so if no server answers there yet.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::control_server::ControlServerArgs;
use super::greeting::OpenedAddress;
use super::typed::FromEnvironment;
use super::{complain, failed, output, state_file, values};

/// How long a server may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which page is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedPage {
    Wall,
    Dashboard,
    Fixes,
}

#[derive(Debug, Args)]
pub struct AddressArgs {
    #[command(flatten)]
    pub server: ControlServerArgs,
    /// Where the app listens, if no state file says so.
    #[arg(id = "page_bind", long = "bind", value_name = "ADDRESS", env = "NINETABS_BIND", default_value = "tcp://127.0.0.1:9292", value_parser = values::address)]
    pub bind: SocketAddr,
}

/// Prints the page's address.
pub fn run(page: NamedPage, args: &AddressArgs, from_environment: &FromEnvironment) -> ExitCode {
    let server = match args.server.find() {
        Ok(server) => server,
        Err(error) => return failed(from_environment.named(&error.to_string())),
    };
    let address = match page {
        NamedPage::Wall => server.page("/wall"),
        NamedPage::Dashboard => server.page("/"),
        NamedPage::Fixes => Some(format!("{}/fixes", app(args))),
    };
    match address {
        Some(address) => {
            if let Err(error) = server.touch(PATIENCE) {
                complain(from_environment.named(&error.to_string()));
            }
            // A secret is printed nowhere, so the address alone does not open.
            if page != NamedPage::Fixes && server.needs_token() {
                complain("add ?token= and the control token to this address");
            }
            output::print(format!("{address}\n").as_bytes())
        }
        None => failed(from_environment.named(&format!(
            "{}: a browser opens no Unix socket; start the server with --control-url tcp://127.0.0.1:9293",
            server.url
        ))),
    }
}

/// Where a browser finds the app.
fn app(args: &AddressArgs) -> String {
    let said = args.server.state.as_deref().and_then(|path| state_file::app_in(path).ok().flatten());
    OpenedAddress(said.and_then(|said| values::address(&said).ok()).unwrap_or(args.bind)).url()
}
