//! Converts a URL to the settings of a connection.
//!
//! tokio-postgres reads neither `PGPASSWORD` nor the password file, and it reports `sslmode` only when it connects.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::super::Failure;
use super::hosts;
use crate::app::database_place::DatabaseUrl;

/// The folder of the socket of Debian's PostgreSQL, for a URL without a host.
const SOCKETS: &str = "/var/run/postgresql";
/// How long an idle connection is silent before the kernel checks its peer, and how long written bytes may stay
/// unacknowledged. Calls have shorter limits of their own. This one frees connections to a host that has vanished.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);

/// The settings of connections to this database, one per host. `application_name` appears in `pg_stat_activity`.
pub(super) fn configs(
    url: &DatabaseUrl,
    application_name: &str,
    connect_within: Duration,
) -> Result<Vec<Config>, Failure> {
    if let Some(mode) = ssl_mode(url.reveal()).filter(|mode| !["disable", "allow", "prefer"].contains(mode)) {
        return Err(Failure::Setup(format!(
            "cannot connect to PostgreSQL with sslmode={mode}: this build does not support TLS; give sslmode=disable on a trusted network, or the address of a local PgBouncer or stunnel to --database"
        )));
    }
    let mut config: Config = url.reveal().parse().map_err(|error| invalid(url, &error))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path(SOCKETS);
    }
    if config.get_application_name().is_none() {
        config.application_name(application_name);
    }
    if config.get_connect_timeout().is_none() {
        // The time is divided, because the first of several hosts may not answer.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len()).max(1);
        config.connect_timeout(connect_within / u32::try_from(hosts).unwrap_or(u32::MAX));
    }
    config.keepalives_idle(PEER_GONE_AFTER).tcp_user_timeout(PEER_GONE_AFTER);
    if config.get_password().is_none()
        && let Ok(password) = env::var("PGPASSWORD")
    {
        config.password(password);
    }
    let mut configs = hosts::each(&config);
    if config.get_password().is_none()
        && let Some(file) = password_file()
    {
        for config in &mut configs {
            if let Some(password) = in_password_file(&file, config) {
                config.password(password);
            }
        }
    }
    Ok(configs)
}

/// The `sslmode` of a URL. It is checked before the URL is parsed, because the parser does not know all modes.
fn ssl_mode(url: &str) -> Option<&str> {
    let (_, parameters) = url.split_once('?')?;
    parameters.split('&').filter_map(|it| it.strip_prefix("sslmode=")).next_back()
}

/// The error for an invalid URL. It omits the cause if the parser may have split the URL in the middle of a password.
fn invalid(url: &DatabaseUrl, error: &tokio_postgres::Error) -> Failure {
    if url.reveal().matches('@').count() > 1 {
        return Failure::Setup(
            "the URL is not valid; write %40 for each @ in the user's name and password".to_owned(),
        );
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::Setup(format!("the URL is not valid{cause}"))
}

/// The text of the password file, if there is one and other users cannot read it.
fn password_file() -> Option<String> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let path = env::var_os("PGPASSFILE").map(PathBuf::from).or_else(home)?;
    let file = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    if file.permissions().mode() & 0o077 != 0 {
        log::warn!(
            "the password file {} is ignored: other users may read it; give it the mode 0600",
            path.display()
        );
        return None;
    }
    fs::read_to_string(&path).ok()
}

/// The password of the first line that matches: `host:port:database:user:password`, with `*` for anything.
fn in_password_file(text: &str, config: &Config) -> Option<String> {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => config.get_hostaddrs().first()?.to_string(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let wanted = [&host, &port, config.get_dbname().unwrap_or(user), user];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|fields| {
        let (password, given) = fields.split_last()?;
        let is_it =
            given.len() == 4 && given.iter().zip(wanted).all(|(it, wanted)| it == "*" || it == wanted);
        is_it.then(|| password.clone())
    })
}

/// Splits a line into its first four fields and the rest. A backslash quotes the next character.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let is_last = fields.len() == 5;
        let Some(field) = fields.last_mut() else { break };
        match letter {
            '\\' => field.extend(letters.next()),
            ':' if !is_last => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Config, Failure> {
        configs(&DatabaseUrl::of(url).unwrap(), "ninetabs", Duration::from_secs(6))
            .map(|mut configs| configs.remove(0))
    }

    #[test]
    fn tls_is_refused_with_the_mode_and_a_remedy() {
        for mode in ["require", "verify-ca", "verify-full", "nonsense"] {
            let refused = of(&format!("postgresql://h/d?sslmode={mode}")).unwrap_err().to_string();
            let words = format!(
                "cannot connect to PostgreSQL with sslmode={mode}: this build does not support TLS; give "
            );
            assert!(refused.starts_with(&words), "{refused}");
        }
        for mode in ["disable", "prefer"] {
            of(&format!("postgresql://h/d?sslmode={mode}")).unwrap();
        }
    }

    #[test]
    fn an_invalid_url_is_refused_without_a_part_of_its_password() {
        let refused = |url: &str| of(url).unwrap_err().to_string();
        assert_eq!(refused("postgresql://h:x/d"), "the URL is not valid: invalid value for option `port`");
        let divided = refused("postgresql://me:p@s3cret:x@h/d?s3cret=1");
        assert!(divided.contains("write %40") && !divided.contains("s3cret"), "{divided}");
    }

    #[test]
    fn several_hosts_share_the_time_to_connect_and_a_url_without_a_host_means_the_local_socket() {
        assert_eq!(of("postgresql://a,b,c/d").unwrap().get_connect_timeout(), Some(&Duration::from_secs(2)));
        let local = of("postgresql:///d").unwrap();
        assert_eq!(local.get_hosts(), [Host::Unix(SOCKETS.into())]);
    }

    #[test]
    fn the_first_line_of_the_password_file_that_matches_is_used() {
        let file = "# a comment\n\
                    other:5432:models:me:wrong\n\
                    h:*:models:me:with\\:colon\\\\and:colons\n\
                    *:*:*:*:any\n";
        let found = |url: &str| in_password_file(file, &url.parse().unwrap());
        assert_eq!(found("postgresql://me@h:77/models").as_deref(), Some("with:colon\\and:colons"));
        assert_eq!(found("postgresql://you@h/models").as_deref(), Some("any"));
        assert_eq!(in_password_file("a:b:c\n\nx", &"postgresql://me@h/d".parse().unwrap()), None);
    }
}
