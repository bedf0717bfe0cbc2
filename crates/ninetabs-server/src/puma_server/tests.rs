use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use socket2::SockRef;

use crate::{Handle, Request, Response, Server};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn connect(server: &Handle) -> TcpStream {
    let client = TcpStream::connect(server.addr()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client
}

fn read_answers(client: &mut TcpStream, wanted: usize) {
    let (mut answers, mut bytes) = (Vec::new(), [0; 512]);
    while answers.windows(6).filter(|part| part == b"\r\n\r\nok").count() < wanted {
        let read = client.read(&mut bytes).expect("an answer");
        assert_ne!(read, 0, "closed: {}", String::from_utf8_lossy(&answers));
        answers.extend_from_slice(&bytes[..read]);
    }
}

/// After an answer, the thread asks the reactor, not the kernel, whether more bytes have arrived. A request or a close
/// that arrives in between must not be missed.
#[test]
fn a_request_or_close_is_noticed_however_soon_it_follows_an_answer() {
    let server = Server::bind("127.0.0.1:0").start(|_: &Request| Response::text("ok")).unwrap();
    // Puma closes a connection after 999 requests; this test stays below that number.
    let converse = |offset: u64| {
        let mut client = connect(&server);
        for n in 0..400 {
            client.write_all(GET).unwrap();
            // The first piece of the next request arrives at about the time the answer is sent.
            let (first, rest) = GET.split_at(n as usize % 7);
            let until = Instant::now() + Duration::from_micros((n * 7 + offset) % 60);
            while Instant::now() < until {}
            client.write_all(first).unwrap();
            read_answers(&mut client, 1);
            client.write_all(rest).unwrap();
            read_answers(&mut client, 1);
        }
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the server did not close after the client had closed");
    };
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || (0..5).for_each(|at| converse(5 * n + at)));
        }
    });
}

/// A read stops before an urgent byte, so a short read does not prove that nothing is left to read.
#[test]
fn a_request_after_urgent_data_is_answered() {
    // With a shorter timeout, a client that the reactor overlooks would eventually be read anyway.
    let never = Duration::from_secs(3_600);
    let server = Server::bind("127.0.0.1:0").persistent_timeout(never);
    let server = server.start(|_: &Request| Response::text("ok")).unwrap();
    for round in 0..60 {
        let mut client = connect(&server);
        for _ in 0..round % 3 {
            client.write_all(GET).unwrap();
            read_answers(&mut client, 1);
        }
        let socket = SockRef::from(&client);
        socket.send_out_of_band(&[GET, b"!"].concat()).unwrap();
        thread::sleep(Duration::from_millis(round % 4));
        socket.send(GET).unwrap();
        read_answers(&mut client, 2);
        client.write_all(GET).unwrap();
        read_answers(&mut client, 1);
    }
}

#[test]
fn a_request_can_be_marked_after_the_handle_is_dropped() {
    let (begins, begun) = bounded(0);
    let (go_on, goes_on) = bounded(0);
    let (let_end, ends) = bounded::<()>(0);
    let app = move |request: &Request| {
        if request.path() == "/long" {
            begins.send(()).unwrap();
            goes_on.recv().unwrap();
            request.mark_as_io_bound();
            // Disconnected once the test has read the other answer, or has failed.
            let _ = ends.recv();
        }
        Response::text("ok")
    };
    let server = Server::bind("127.0.0.1:0").threads(1..=1).max_io_threads(1).start(app).unwrap();
    let (mut long, mut short) = (connect(&server), connect(&server));
    long.write_all(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    begun.recv().unwrap();
    short.write_all(GET).unwrap();
    while server.glance().pool.backlog == 0 {
        thread::yield_now();
    }
    drop(server);
    go_on.send(()).unwrap();
    read_answers(&mut short, 1);
    drop(let_end);
    read_answers(&mut long, 1);
}
