//! `cable`: the exact protocol of Action Cable, tested with raw messages and with Rails' own client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::common::chromedriver::Browser;
use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{assert_gapless, ids_there};
use crate::common::{PATIENCE, Server, create, create_large, get, npm, read_head, send, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

on_each_engine! {
    a_client_gets_a_welcome_and_each_model_as_a_message,
    a_client_that_was_cut_off_subscribes_with_its_position_and_misses_no_model,
}

const CHANNEL: &str = r#"{"channel":"ModelsChannel"}"#;
const V1: &str = "actioncable-v1-json";
const UNSUPPORTED: &str = "actioncable-unsupported";

/// A handshake with these fields, in addition to the required ones.
fn handshake(app: SocketAddr, fields: &str) -> String {
    let request = format!(
        "GET /cable HTTP/1.1\r\nHost: {app}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    read_head(&mut send(app, request.as_bytes()))
}

/// A client that has received its welcome message.
fn connect(app: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(app).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let uri = format!("ws://{app}/cable").parse().unwrap();
    let request = ClientRequestBuilder::new(uri)
        .with_header("Origin", format!("http://{app}"))
        .with_sub_protocol(V1)
        .with_sub_protocol(UNSUPPORTED);
    let (mut socket, answer) = tungstenite::client(request, stream).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], V1);
    assert_eq!(text(&mut socket), r#"{"type":"welcome"}"#);
    socket
}

/// The next text message other than a ping.
fn text(socket: &mut WebSocket<TcpStream>) -> String {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) if text.starts_with(r#"{"type":"ping","message":"#) => {}
            Message::Text(text) => return text.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn command(socket: &mut WebSocket<TcpStream>, command: &str, identifier: &str) {
    let command = json!({ "command": command, "identifier": identifier });
    socket.send(Message::text(command.to_string())).unwrap();
}

fn answer(identifier: &str, kind: &str) -> String {
    format!(r#"{{"identifier":{},"type":"{kind}"}}"#, json!(identifier))
}

/// The subscription and the model id in the next message.
fn model(socket: &mut WebSocket<TcpStream>) -> (String, i64) {
    let message: Value = serde_json::from_str(&text(socket)).unwrap();
    assert_eq!(message.as_object().unwrap().keys().collect::<Vec<_>>(), ["identifier", "message"]);
    (message["identifier"].as_str().unwrap().to_owned(), message["message"]["id"].as_i64().unwrap())
}

#[test]
fn the_handshake_matches_the_one_of_rails() {
    let server = Server::start(&[]);
    let app = server.app;
    let origin = format!("Origin: http://{app}\r\n");
    let accepted = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (wanted, chosen) in [
        (format!("{V1}, {UNSUPPORTED}"), Some(V1)),
        (format!("{UNSUPPORTED}, {V1}"), Some(UNSUPPORTED)),
        (format!("chat,{V1}"), Some(V1)),
        ("chat".to_owned(), None),
    ] {
        let head = handshake(app, &format!("{origin}Sec-WebSocket-Protocol: {wanted}\r\n"));
        let chosen = chosen.map(|it| format!("sec-websocket-protocol: {it}\r\n")).unwrap_or_default();
        assert_eq!(head, format!("{accepted}{chosen}\r\n"), "{wanted}");
    }
    assert_eq!(handshake(app, &origin), format!("{accepted}\r\n"));
    // Requests from another site, without an origin, and with a null origin are refused.
    for fields in ["Origin: http://evil.test\r\n", "", "Origin: null\r\n"] {
        assert!(handshake(app, fields).starts_with("HTTP/1.1 404 "), "{fields}");
    }
    let other = Server::start(&["--allow-origin", "http://a.localhost:1"]);
    let head = handshake(other.app, "Origin: http://a.localhost:1\r\n");
    assert_eq!(head, format!("{accepted}\r\n"), "an origin of --allow-origin");
    assert_eq!(get(app, "/cable"), (404, "Page not found".to_owned()));
    // A list may be split over several lines.
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let lists = "Upgrade: h2c\r\nUpgrade: WebSocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\n";
    let protocols = format!("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: x, {V1}\r\n");
    let asked = |version: &str, fields: &str| {
        let request = format!("GET /cable HTTP/{version}\r\nHost: {app}\r\n{origin}{lists}{fields}\r\n");
        read_head(&mut send(app, request.as_bytes()))
    };
    let fine = format!("Sec-WebSocket-Version: 13\r\n{key}");
    assert_eq!(
        asked("1.1", &format!("{fine}{protocols}")),
        format!("{accepted}sec-websocket-protocol: {V1}\r\n\r\n")
    );
    let not_found = |head: &str, names_version: bool| {
        assert!(head.contains(" 404 "), "{head}");
        assert_eq!(head.contains("\r\nsec-websocket-version: 13\r\n"), names_version, "{head}");
    };
    not_found(&asked("1.0", &fine), false);
    for wrong in ["x", "", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25jZQ"] {
        not_found(
            &asked("1.1", &format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {wrong}\r\n")),
            false,
        );
    }
    not_found(&asked("1.1", &format!("{fine}{key}")), false);
    for other in ["8", "", "013", "13, 8"] {
        not_found(&asked("1.1", &format!("Sec-WebSocket-Version: {other}\r\n{key}")), true);
    }
    let elsewhere = format!("GET /cable HTTP/1.1\r\nHost: evil.test\r\n{origin}\r\n");
    assert!(read_head(&mut send(app, elsewhere.as_bytes())).starts_with("HTTP/1.1 403 "));
}

fn a_client_gets_a_welcome_and_each_model_as_a_message(engine: EngineKind) {
    let server = engine.server(&["--threads", "1:1"]);
    let mut socket = connect(server.app);
    command(&mut socket, "subscribe", CHANNEL);
    assert_eq!(text(&mut socket), answer(CHANNEL, "confirm_subscription"));
    assert_eq!(create(server.app, "a").0, 201);
    let message = text(&mut socket);
    assert!(
        message.starts_with(&format!(
            r#"{{"identifier":{},"message":{{"id":1,"name":"a","created_at":"#,
            json!(CHANNEL)
        )),
        "{message}"
    );
    // A differently written identifier is another subscription, and answers contain its bytes unchanged.
    let other = r#"{ "since": 0, "channel":"ModelsChannel"}"#;
    command(&mut socket, "subscribe", other);
    assert_eq!(text(&mut socket), answer(other, "confirm_subscription"));
    assert_eq!(model(&mut socket), (other.to_owned(), 1));
    command(&mut socket, "unsubscribe", CHANNEL);
    assert_eq!(create(server.app, "b").0, 201);
    assert_eq!(model(&mut socket), (other.to_owned(), 2));

    // A client that repeats a subscription has not received the confirmation. It gets the confirmation again, but
    // no model twice.
    command(&mut socket, "subscribe", other);
    assert_eq!(text(&mut socket), answer(other, "confirm_subscription"));
    // None of these commands and messages is answered.
    command(&mut socket, "subscribe", r#"{"channel":"NoChannel"}"#);
    command(&mut socket, "subscribe", "no json");
    command(&mut socket, "dance", other);
    command(&mut socket, "message", other);
    socket.send(Message::text("no json")).unwrap();
    socket.send(Message::text("[1]")).unwrap();
    socket.send(Message::binary(vec![0, 159])).unwrap();
    for since in ["-1", "\"x\"", "{}"] {
        let refused = format!(r#"{{"channel":"ModelsChannel","since":{since}}}"#);
        command(&mut socket, "subscribe", &refused);
        assert_eq!(text(&mut socket), answer(&refused, "reject_subscription"));
    }
    socket.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
    loop {
        match socket.read().unwrap() {
            Message::Pong(payload) => break assert_eq!(&payload[..], [1, 2, 3]),
            Message::Text(text) => assert!(text.contains("ping"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    server.wait_for_stats("a free thread", |stats| stats["pool_capacity"] == 1);
    socket.close(None).unwrap();
    wait_for("the end of the connection", || socket.read().is_err().then_some(()));
    server.wait_for_stats("no listener", |stats| stats["listeners"]["open"] == 0);
}

#[test]
fn pings_carry_the_time() {
    let server = Server::start(&[]);
    let mut socket = connect(server.app);
    let mut times = Vec::new();
    while times.len() < 3 {
        let Message::Text(text) = socket.read().unwrap() else { continue };
        let ping: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ping["type"], "ping", "{ping}");
        times.push(ping["message"].as_u64().unwrap());
    }
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + 2), "{times:?}");
}

fn a_client_that_was_cut_off_subscribes_with_its_position_and_misses_no_model(engine: EngineKind) {
    let cuts = engine.times(250, 40);
    let server = engine.server_with("--produce-every 3ms --keep-models 1000000");
    thread::scope(|scope| {
        for n in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut all: Vec<i64> = Vec::new();
                for cut in 0..=cuts {
                    let mut socket = connect(server.app);
                    let since = all.last().copied().unwrap_or(0);
                    let identifier = json!({ "channel": "ModelsChannel", "since": since }).to_string();
                    command(&mut socket, "subscribe", &identifier);
                    assert_eq!(text(&mut socket), answer(&identifier, "confirm_subscription"));
                    let newest = if cut == cuts { *ids_there(server).last().unwrap() } else { 0 };
                    let mut left = fastrand::usize(0..8);
                    while left > 0 || all.last().is_none_or(|last| *last < newest) {
                        all.push(model(&mut socket).1);
                        left = left.saturating_sub(1);
                    }
                }
                assert_gapless(&all, 1, &format!("client {n}"));
            });
        }
    });
}

#[test]
fn a_restart_is_announced() {
    let mut server = Server::start(&[]);
    let mut socket = connect(server.app);
    server.signal(Signal::TERM);
    assert_eq!(text(&mut socket), r#"{"type":"disconnect","reason":"server_restart","reconnect":true}"#);
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Normal);
    assert!(server.wait_for_exit().success());
}

#[test]
fn garbage_floods_and_stalled_readers_do_not_affect_other_clients() {
    let server =
        Server::start(&["--write-timeout", "2", "--push-buffer", "16777216", "--keep-models", "100000"]);
    let mut fast = connect(server.app);
    command(&mut fast, "subscribe", CHANNEL);
    assert_eq!(text(&mut fast), answer(CHANNEL, "confirm_subscription"));
    let fast = thread::spawn(move || (0..300).map(|_| model(&mut fast).1).collect::<Vec<_>>());
    let raw = || {
        let mut socket = connect(server.app);
        let stream = socket.get_mut().try_clone().unwrap();
        drop(socket);
        stream
    };
    // Bytes that are not a frame, the beginning of a frame that is too large, a complete frame that is too large,
    // and a frame without a mask.
    let large = [&[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b'x'; 0xffff]].concat();
    for (bytes, code) in [
        (&[0xff; 64][..], 1002),
        (&[0x81, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 1, 2, 3, 4], 1009),
        (&large, 1009),
        (&[0x81, 0x02, b'h', b'i'], 1002),
    ] {
        let mut stream = raw();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the connection ends without a reset");
        let close = [&[0x88, 0x02][..], &u16::to_be_bytes(code)].concat();
        assert!(rest.ends_with(&close), "{rest:?}");
    }
    // A client that sends commands without reading the answers.
    let mut greedy = connect(server.app);
    greedy.get_mut().set_write_timeout(Some(PATIENCE)).unwrap();
    let identifier = r#"{"channel":"ModelsChannel","since":-1}"#;
    let ask = json!({ "command": "subscribe", "identifier": identifier }).to_string();
    wait_for("the end of the greedy client", || {
        (0..1000).any(|_| greedy.send(Message::text(ask.clone())).is_err()).then_some(())
    });
    // A client that subscribes without reading the messages.
    let mut stopped = connect(server.app);
    command(&mut stopped, "subscribe", r#"{"channel":"ModelsChannel","since":0}"#);
    create_large(server.app, 300);
    server.wait_for_stats("cut-off listener", |stats| stats["listeners"]["cut"].as_u64() >= Some(1));
    let all = fast.join().unwrap();
    assert_eq!(all.len(), 300);
    assert_gapless(&all, 1, "the fast client");
    server.wait_for_stats("end of all listeners", |stats| stats["listeners"]["open"] == 0);
}

#[test]
fn the_page_receives_models_and_reconnects_with_its_position() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--stream-cap", "2"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/cable"));
    browser.wait_for(&tab, "document.getElementById('stream-state').textContent === 'subscribed'");
    assert_eq!(create(server.app, "seen").0, 201);
    browser.wait_for(&tab, "document.getElementById('models').textContent.includes('seen')");
    browser.wait_for(&tab, "Number(document.getElementById('pings').textContent) >= 1");
    browser.run(&tab, "socket.close()");
    browser.wait_for(&tab, "document.getElementById('stream-state').textContent === 'lost'");
    assert_eq!(create(server.app, "missed").0, 201);
    browser.wait_for(&tab, "document.getElementById('models').textContent.includes('missed')");
    browser.wait_for(&tab, "document.getElementById('received').textContent === '2'");
}

/// Rails' own client, in a real browser: it connects, receives, survives a restart and reconnects.
#[test]
fn the_client_of_rails_connects_receives_and_survives_a_restart() {
    let Some(browser) = Browser::start() else { return };
    let Some(client) = npm::fetch("@rails/actioncable@8.1.400", "app/assets/javascripts/actioncable.js")
    else {
        return;
    };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes"));
    // The client expects `this` to be the global object, as in a separate script.
    browser.run(&tab, &format!("(function() {{ {client} }}).call(window)"));
    browser.run(
        &tab,
        "window.told = [];
         window.consumer = ActionCable.createConsumer('/cable');
         window.models = consumer.subscriptions.create('ModelsChannel', {
           connected: it => told.push('connected ' + it.reconnected),
           disconnected: it => told.push('disconnected ' + it.willAttemptReconnect),
           received: model => told.push('model ' + model.id),
         });",
    );
    browser.wait_for(&tab, "told.includes('connected false')");
    assert_eq!(create(server.app, "a").0, 201);
    browser.wait_for(&tab, "told.includes('model 1')");

    let server = server.restart(&[]);
    browser.wait_for(&tab, "told.includes('disconnected true')");
    browser.wait_for(&tab, "told.includes('connected true')");
    assert_eq!(create(server.app, "b").0, 201);
    browser.wait_for(&tab, "told.includes('model 2')");
    assert_eq!(
        browser.eval(&tab, "told"),
        json!(["connected false", "model 1", "disconnected true", "connected true", "model 2"])
    );
    browser.run(&tab, "consumer.disconnect()");
    server.wait_for_stats("no listener", |stats| stats["listeners"]["open"] == 0);
}
