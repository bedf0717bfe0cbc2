use super::*;
use crate::app::announcements::tests::{announced, blocked_feed};
use crate::app::model::Model;

/// Feeds these pieces to a client of the cable. Returns the bytes of the response, and whether the connection ends.
fn answered(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut feed = blocked_feed();
    let mut client = CableClient::new();
    for piece in pieces {
        client.receive(&mut feed, piece);
    }
    match client.next(&mut feed, Instant::now()) {
        NextPiece::Send(bytes) => (bytes.to_vec(), false),
        NextPiece::Last(bytes) => (bytes.to_vec(), true),
        NextPiece::Wait | NextPiece::Cut(_) => panic!("no welcome"),
    }
}

/// A frame of a client, masked with zeros.
fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[test]
fn the_server_sends_a_welcome_before_it_fails_a_connection_with_a_code() {
    let big = frame_of(0x81, &vec![b'x'; 20_000]);
    let fragments = [frame_of(0x01, &[b'x'; 9_000]), frame_of(0x80, &[b'x'; 9_000])].concat();
    let welcome = &b"\x81\x12{\"type\":\"welcome\"}"[..];
    for (name, sent, code) in [
        ("a message that is too big", &big[..], 1009),
        ("its first kilobyte", &big[..1_024], 1009),
        ("too big in fragments", &fragments, 1009),
        ("a length of 2^63", &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("a reserved bit", &frame_of(0xc1, b"x"), 1002),
        ("a reserved opcode", &frame_of(0x83, b"x"), 1002),
        ("a reserved control opcode", &frame_of(0x8b, b"x"), 1002),
        ("no mask", &[0x81, 0x02, b'h', b'i'], 1002),
        ("a stray continuation", &frame_of(0x80, b"x"), 1002),
        ("a message within a message", &[frame_of(0x01, b"a"), frame_of(0x81, b"b")].concat(), 1002),
        ("a long ping", &frame_of(0x89, &[b'x'; 126]), 1002),
        ("a fragmented ping", &frame_of(0x09, b"x"), 1002),
        ("a close of one byte", &frame_of(0x88, b"x"), 1002),
        ("text that is not UTF-8", &frame_of(0x81, b"a\xffb"), 1007),
        ("a close whose reason is not UTF-8", &frame_of(0x88, b"\x03\xe8\xff"), 1007),
        ("fragments that are not UTF-8", &[frame_of(0x01, b"\xc3"), frame_of(0x80, b"(")].concat(), 1007),
    ] {
        // As one piece, and byte by byte. Later bytes are ignored.
        let bytes: Vec<&[u8]> = sent.chunks(1).collect();
        let more = frame_of(0x89, b"ping");
        for pieces in [vec![sent, &more], [bytes, vec![&more]].concat()] {
            let (got, is_last) = answered(&pieces);
            let close = [&[0x88, 0x02][..], &u16::to_be_bytes(code)].concat();
            assert_eq!(got, [welcome, &close].concat(), "{name}");
            assert!(is_last, "{name}");
        }
    }
    let (got, is_last) = answered(&[&frame_of(0x88, b"\x03\xe8")]);
    assert_eq!((got, is_last), ([welcome, b"\x88\x02\x03\xe8"].concat(), true), "its own close");
}

#[test]
fn a_client_that_is_cut_off_gets_a_close_frame_with_a_code() {
    for (why, code) in [(FELL_BEHIND, 1008), (PANICKED, 1011)] {
        let mut client = CableClient::new();
        let words = client.cut(why);
        assert_eq!(words[words.len() - 4..], [&[0x88, 0x02][..], &u16::to_be_bytes(code)].concat());
    }
}

#[test]
fn a_frame_that_arrives_byte_by_byte_costs_the_same_per_byte_whatever_its_length() {
    // The work is measured in bytes that the wire holds and passes on, not in time.
    let mut feed = blocked_feed();
    let mut client = CableClient::new();
    let frame = frame_of(0x82, &[b'x'; MAX_MESSAGE]);
    for byte in &frame {
        client.receive(&mut feed, &[*byte]);
        assert!(client.socket.get_ref().incoming.is_empty(), "a byte is parsed again");
    }
    assert!(!client.has_left);
    let cost = |length: usize| {
        let frame = frame_of(0x82, &vec![b'x'; length]);
        let began = Instant::now();
        for _ in 0..256 * 1024 / length {
            for byte in &frame {
                client.receive(&mut feed, &[*byte]);
            }
        }
        began.elapsed()
    };
    let [short, long] = [1_024, MAX_MESSAGE].map(cost);
    assert!(long < short * 8, "sixteen times the length: {long:?} after {short:?}");
}

#[test]
fn a_subscribed_client_keeps_no_memory_for_bytes_that_it_may_send_later() {
    let mut feed = blocked_feed();
    let mut client = CableClient::new();
    let command = serde_json::json!({ "command": "subscribe", "identifier": PLAIN_IDENTIFIER });
    client.receive(&mut feed, &frame_of(0x81, command.to_string().as_bytes()));
    let NextPiece::Send(_) = client.next(&mut feed, Instant::now()) else { panic!("no confirmation") };
    let wire = client.socket.get_ref();
    assert_eq!((wire.incoming.capacity(), wire.outgoing.capacity()), (0, 0));
    assert_eq!(client.subscriptions.capacity(), 1);
    assert!(matches!(client.subscriptions[0].identifier, Cow::Borrowed(_)), "its text is copied");
}

#[test]
fn pings_of_different_clients_are_spread_over_time() {
    let mut feed = blocked_feed();
    let began = Instant::now();
    let mut clients: Vec<CableClient> = (0..2_000).map(|_| CableClient::new()).collect();
    let mut most = 0;
    let mut all = 0;
    for step in 0..40 {
        let now = began + Duration::from_millis(250) * step;
        let mut is_pinged = |client: &mut CableClient| match client.next(&mut feed, now) {
            NextPiece::Send(bytes) => bytes.windows(6).any(|it| it == b"\"ping\""),
            _ => false,
        };
        let pings = clients.iter_mut().map(&mut is_pinged).filter(|is_pinged| *is_pinged).count();
        (most, all) = (most.max(pings), all + pings);
    }
    assert!(all > 2_000 * 3 && most < 2_000 / 4, "{most} of {all} in one step");
}

#[test]
fn a_key_is_sixteen_bytes_in_base64() {
    assert!(is_sixteen_bytes("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(is_sixteen_bytes("////////////////+++++A=="));
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub2-jZQ==",
    ] {
        assert!(!is_sixteen_bytes(key), "{key}");
    }
}

#[test]
fn an_identifier_that_a_client_chose_is_not_kept_among_the_shapes() {
    let model = |id, name: &str| Model { id, name: name.into(), created_at: UNIX_EPOCH };
    let announcement = announced(vec![model(1, "a\nb"), model(2, "c\u{2028}")]);
    for since in 0..100 {
        let identifier = format!(r#"{{"channel":"ModelsChannel","since":{since}}}"#);
        let (got, mut wanted) = (messages(&announcement, &identifier), Vec::new());
        let News::Models { models, .. } = &announcement.news else { panic!("no models") };
        for model in models {
            let (identifier, model) = (to_json(&identifier), to_json(model));
            let message = format!("{{\"identifier\":{identifier},\"message\":{model}}}");
            frame(&message, &mut wanted);
        }
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted));
        assert_eq!(announcement.shapes(), ["JSON lines"]);
    }
    let plain = || messages(&announcement, PLAIN_IDENTIFIER);
    assert!(Rc::ptr_eq(&plain(), &plain()), "it is made once for all clients");
    assert_eq!(announcement.shapes(), ["JSON lines", "cable"]);
}
