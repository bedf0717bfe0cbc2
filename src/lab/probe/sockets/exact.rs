//! Asks the kernel for one socket by its two addresses, over a netlink socket (see `sock_diag(7)`).
//!
//! The kernel finds the socket by its hash, so an answer takes microseconds, however many sockets there are.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::{LISTEN, TcpSocket};

/// Room for an answer, which has about a hundred bytes.
const ANSWER: usize = 1024;

/// A cookie that any socket matches.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// A connection to the kernel.
pub(super) struct Kernel(OwnedFd);

/// What the kernel knows about the socket that connects two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KernelAnswer {
    Socket(TcpSocket),
    /// There is none, and a program of this machine listens at the local address. The kernel answers with that listener.
    OnlyListener,
    /// The kernel knows none, or it lacks the module that finds TCP sockets: its answer is the same.
    Nothing,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Kernel> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(Kernel(socket))
    }

    /// The socket that connects these addresses.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the question, or if its answer cannot be read. Does not block: the kernel has answered
    /// before `send` returns.
    pub(super) fn connection(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<KernelAnswer> {
        send(&self.0, &question(local, remote), SendFlags::empty())?;
        let mut answer = [0; ANSWER];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..length]);
        match answer.map_err(io::Error::other)?.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                let found = TcpSocket::from(&found.header);
                Ok(if found.state == LISTEN {
                    KernelAnswer::OnlyListener
                } else {
                    KernelAnswer::Socket(found)
                })
            }
            NetlinkPayload::Error(error) if error.raw_code() == -Errno::NOENT.raw_os_error() => {
                Ok(KernelAnswer::Nothing)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    // A socket of IPv6 that serves IPv4 is found by its IPv4 addresses.
    let source_address = local.ip().to_canonical();
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: if source_address.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address,
            destination_address: remote.ip().to_canonical(),
            interface_id: 0,
            cookie: ANY_COOKIE,
        },
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

impl From<&InetResponseHeader> for TcpSocket {
    fn from(found: &InetResponseHeader) -> TcpSocket {
        let id = &found.socket_id;
        TcpSocket {
            local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            state: found.state,
            unsent: found.send_queue.into(),
            unread: found.recv_queue.into(),
            inode: found.inode.into(),
        }
    }
}
