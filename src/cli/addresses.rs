//! `wall`, `dashboard` and `fixes`: print the addresses of the pages with these names.
//!
//! If no server answers at the address, a line on standard error reports that the page is one of
//! `ninetabs serve`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::control_server::ControlServerArgs;
use super::greeting::OpenedAddress;
use super::typed::FromEnvironment;
use super::{complain, failed, output, state_file, values};

/// The maximum time to connect.
const PATIENCE: Duration = Duration::from_secs(2);

/// The page whose address is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedPage {
    Wall,
    Dashboard,
    Fixes,
}

impl NamedPage {
    /// The page and its verb.
    fn in_words(self) -> &'static str {
        match self {
            NamedPage::Wall => "wall is",
            NamedPage::Dashboard => "dashboard is",
            NamedPage::Fixes => "list of fixes is",
        }
    }
}

#[derive(Debug, Args)]
pub struct AddressArgs {
    #[command(flatten)]
    pub server: ControlServerArgs,
    /// App's address, unless a state file gives it [default: tcp://127.0.0.1:9292]
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
                let why = format!("the {} a page of `ninetabs serve`: {error}", page.in_words());
                complain(from_environment.named(&why));
            }
            // The token is never printed, so the address alone does not open the page.
            if page != NamedPage::Fixes && server.needs_token() {
                complain("append ?token= and the control token to this address");
            }
            output::print(format!("{address}\n").as_bytes())
        }
        None => failed(from_environment.named(&format!(
            "{}: a browser cannot open a Unix socket; start the server with --control-url tcp://127.0.0.1:9293",
            server.url
        ))),
    }
}

/// The address of the app, as a browser opens it.
fn app(args: &AddressArgs) -> String {
    let bind = args.server.state.as_deref().and_then(|path| state_file::app_in(path).ok().flatten());
    OpenedAddress(bind.and_then(|bind| values::address(&bind).ok()).unwrap_or(args.bind)).url()
}
