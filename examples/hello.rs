//! A bounded hello world: eight threads serve requests, and further requests wait for one of them.
//!
//! ```sh
//! cargo run --example hello
//! curl http://127.0.0.1:3000/
//! ```

use std::env;

use ninetabs_server::{Response, Server};

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    Server::bind(address).threads(0..=8).serve(|request| match request.path() {
        "/" => Response::text(format!("hello, {}\n", request.param("name").as_deref().unwrap_or("world"))),
        _ => Response::not_found(),
    })
}
