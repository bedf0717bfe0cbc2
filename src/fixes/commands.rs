//! The commands on the pages of the fixes, which can be pasted into a shell as they are.

use std::net::{Ipv4Addr, SocketAddr};

use crate::app::database_place::DatabasePlace;
use crate::app::servers::Started;

/// The defaults of `serve`, which a command leaves out.
const BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9292);
const CONTROL_URL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9293);
const DATABASE: &str = "ninetabs.sqlite3";

/// The command that starts a server with this fix on the addresses and the database of this one.
pub(super) fn start(fix: &str, started: Option<&Started>, database: &DatabasePlace) -> String {
    let mut command = format!("ninetabs serve --fix {fix}");
    if let Some(Started { app, control, .. }) = started {
        if *app != BIND {
            command += &format!(" --bind tcp://{app}");
        }
        if *control != CONTROL_URL {
            command += &format!(" --control-url tcp://{control}");
        }
    }
    if *database != DatabasePlace::from(DATABASE) {
        command += &format!(" --database {}", for_a_shell(&database.to_string()));
    }
    command
}

/// An argument for a shell command, quoted if necessary.
pub(super) fn for_a_shell(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(app: &str, control: &str) -> Started {
        let threads = Box::new(|| None);
        let [app, control] = [app, control].map(|it| it.parse().unwrap());
        Started { app, control, needs_token: false, threads }
    }

    #[test]
    fn a_command_has_the_addresses_and_the_database_unless_they_are_the_defaults() {
        let defaults = started("127.0.0.1:9292", "127.0.0.1:9293");
        assert_eq!(start("reaper", Some(&defaults), &DATABASE.into()), "ninetabs serve --fix reaper");
        let others = started("[::]:80", "127.0.0.1:9393");
        assert_eq!(
            start("cap", Some(&others), &"my rows.sqlite3".into()),
            "ninetabs serve --fix cap --bind tcp://[::]:80 --control-url tcp://127.0.0.1:9393 \
             --database 'my rows.sqlite3'"
        );
        assert_eq!(start("cap", None, &":memory:".into()), "ninetabs serve --fix cap --database :memory:");
    }
}
