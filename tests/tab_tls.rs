//! `ninetabs tab` over https, and with header fields given by the user.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use crate::common::tls::{TlsServer, TlsStream};
use crate::common::wire::{Asked, PATIENCE, Server, wait_for_close, write};

const ONE_EVENT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                           Access-Control-Allow-Origin: *\r\n\r\ndata: one\n\n";

fn one_event(_: &Asked, stream: &mut TlsStream) {
    let _ = stream.write_all(ONE_EVENT);
    let _ = stream.flush();
    wait_for_close(&mut stream.sock);
}

/// Runs the command until its first event or until it fails.
fn tab(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["tab", "--events", "1"]).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_certificate_is_verified_unless_the_user_disables_verification() {
    let server = TlsServer::start(one_event);
    let folder = tempfile::tempdir().unwrap();
    let certificate = server.write_certificate(folder.path());
    let trusted = ("SSL_CERT_FILE", certificate.to_str().unwrap());
    for (arguments, environment) in [(&["-k"][..], &[][..]), (&["--insecure"], &[]), (&[], &[trusted])] {
        let output = tab(&[arguments, &[&server.url("/")]].concat(), environment);
        let notes = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {notes}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"data\":\"one\""));
    }
    let output = tab(&[&server.url("/")], &[]);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    assert!(notes.contains("cannot verify the certificate") && notes.contains("--insecure"), "{notes}");
}

#[test]
fn given_headers_replace_the_defaults_and_secrets_are_not_sent_to_another_origin() {
    let (tell, heads) = mpsc::channel();
    let tell_too = tell.clone();
    let target = TlsServer::start(move |asked, stream| {
        tell.send(asked.clone()).unwrap();
        one_event(asked, stream);
    });
    let location = target.url("/new");
    let server = Server::start(move |asked, stream| {
        tell_too.send(asked.clone()).unwrap();
        write(stream, format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    });
    let given = ["-k", "-H", "Authorization: Bearer x", "--header", "cookie: a=b", "-H", "X-One: 1", "-H"];
    let output = tab(&[&given[..], &["user-agent: me", "-H", "Pragma:", &server.url("/")]].concat(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let next = || heads.recv_timeout(PATIENCE).unwrap();
    let (first, second) = (next(), next());
    for asked in [&first, &second] {
        assert_eq!(asked.header("x-one"), Some("1"));
        assert_eq!((asked.header("user-agent"), asked.header("pragma")), (Some("me"), None));
        assert_eq!(asked.head.to_lowercase().matches("user-agent").count(), 1);
    }
    assert_eq!((first.header("authorization"), first.header("cookie")), (Some("Bearer x"), Some("a=b")));
    assert_eq!((second.header("authorization"), second.header("cookie")), (None, None));
    assert_eq!(second.header("origin"), Some(server.url("").as_str()));
}
