use std::net::{TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::*;

/// A listener whose queue is full, so that a connection to it waits, and the sockets that fill the queue.
fn full_listener() -> (TcpListener, SocketAddr, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // It is under way.
        let _ = socket.connect(&address.into());
        socket
    };
    let filled = (0..4).map(|_| fill()).collect();
    (listener, address, filled)
}

#[test]
fn an_order_that_a_reset_overtakes_opens_nothing() {
    let (listener, address, filled) = full_listener();
    let laboratory = Laboratory::new(address);
    let opening = || {
        let open = laboratory.open();
        (open.opening_zombies, open.opening_pages)
    };
    let (zombies, page) = thread::scope(|scope| {
        let zombies = scope.spawn(|| laboratory.leave_zombies(2));
        let page = scope.spawn(|| laboratory.ask_for_page());
        while opening() != (2, 1) {
            thread::sleep(Duration::from_millis(1));
        }
        laboratory.close_all(|_| ());
        assert_eq!(opening(), (2, 1), "both orders still wait for their connections");
        drop(filled);
        listener.set_nonblocking(true).unwrap();
        let mut accepted: Vec<TcpStream> = Vec::new();
        while !(zombies.is_finished() && page.is_finished()) {
            accepted.extend(listener.accept().ok().map(|(client, _)| client));
            thread::sleep(Duration::from_millis(1));
        }
        (zombies.join().unwrap(), page.join().unwrap())
    });
    assert!(matches!(zombies, Err(LabError::Reset)));
    assert!(matches!(page, Err(LabError::Reset)));
    let shown = laboratory.show();
    assert!(shown.zombies.is_empty() && shown.pages.is_empty());
    assert_eq!(opening(), (0, 0));
}

#[test]
fn an_order_after_a_reset_opens_its_clients() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let laboratory = Laboratory::new(listener.local_addr().unwrap());
    laboratory.close_all(|_| ());
    assert_eq!(laboratory.leave_zombies(2).unwrap().len(), 2);
    let ports: Vec<_> = laboratory.show().zombies.iter().map(|it| it.local_port).collect();
    assert_eq!(ports.len(), 2);
    let mut closing = Vec::new();
    laboratory.close_all(|clients| closing.extend(clients.iter().map(|client| client.local_port)));
    assert_eq!(closing, ports);
    assert!(laboratory.show().zombies.is_empty());
}
