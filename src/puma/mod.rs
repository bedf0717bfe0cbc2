//! The model of Puma: what accepts, queues and runs requests.
//!
//! It uses the timeline and nothing else of the house. It is handed the app as a
//! function of a request, and knows no route, no template and no SQL.

mod acceptor;
pub mod authority;
pub mod body;
pub mod chunks;
mod client;
pub mod configuration;
pub mod connection;
pub mod door;
mod field_values;
pub mod fields;
pub mod framing;
mod glance;
pub mod head;
mod head_scan;
mod lingering;
mod peer_close;
mod pending;
mod pool_state;
mod puma_front;
mod reactor;
mod reactor_state;
pub mod refusal;
pub mod request;
pub mod request_reader;
pub mod response;
pub mod server;
pub mod serving;
pub mod socket;
mod status;
mod sync;
pub mod thread_pool;
mod tiny_http_front;
mod transport;

pub use authority::{Authority, Host};
pub use configuration::Configuration;
pub use connection::{Connection, WriteError};
pub use framing::Ended;
pub use request::Request;
pub use response::{Body, Response};
pub use server::{DoorDied, Server, StartError, ThreadView};
pub use serving::App;
pub use socket::{Cutter, Waited};
