//! A TLS server made of a listener, a self-signed certificate and a script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::wire::Asked;

/// One connection of the server.
pub type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// A server configuration with a new self-signed certificate for `localhost` and 127.0.0.1, and the certificate.
pub fn server_config(protocols: &[&[u8]]) -> (Arc<ServerConfig>, Vec<u8>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = made.cert.der().to_vec();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (Arc::new(config), certificate)
}

/// A running TLS server. Each connection gets a thread, which reads a request's head and then runs the script.
pub struct TlsServer {
    pub port: u16,
    certificate: Vec<u8>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TlsServer {
    pub fn start(script: impl Fn(&Asked, &mut TlsStream) + Send + Sync + 'static) -> TlsServer {
        let (config, certificate) = server_config(&[b"http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, stopping) = (Arc::new(script), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let stopping = stopping.clone();
            move || {
                for (number, stream) in listener.incoming().enumerate() {
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let (script, config, stream) = (script.clone(), config.clone(), stream.unwrap());
                    thread::spawn(move || {
                        let peer_port = stream.peer_addr().map_or(0, |address| address.port());
                        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                        // A client that does not accept the certificate sends no request.
                        if let Some(head) = read_head(&mut stream) {
                            script(&Asked { number, peer_port, head }, &mut stream);
                        }
                        // Like many servers, this one closes the connection without a TLS `close_notify`.
                        let _ = stream.flush();
                    });
                }
            }
        });
        TlsServer { port, certificate, stopping, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// Writes the certificate as a file that `SSL_CERT_FILE` can name.
    pub fn write_certificate(&self, folder: &Path) -> PathBuf {
        let path = folder.join("certificate.pem");
        let base64 = data_encoding::BASE64.encode(&self.certificate);
        let lines: Vec<&str> = (0..base64.len().div_ceil(64))
            .map(|line| &base64[line * 64..base64.len().min((line + 1) * 64)])
            .collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        std::fs::write(&path, pem).unwrap();
        path
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_head(stream: &mut TlsStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}
