//! The model of Puma: what accepts, queues and runs requests.
//!
//! It uses the timeline and nothing else of the house. It is handed the app as a
//! function of a request, and knows no route, no template and no SQL.

pub mod configuration;
pub mod connection;
pub mod framing;
mod pool_state;
pub mod request;
pub mod response;
pub mod server;
pub mod serving;
mod sync;
pub mod thread_pool;
mod tiny_http_front;

pub use configuration::Configuration;
pub use connection::{Connection, Ended, WriteError};
pub use request::Request;
pub use response::{Body, Response};
pub use server::{DoorDied, Server, StartError, ThreadView};
pub use serving::App;
