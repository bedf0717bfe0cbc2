//! The application that answers requests.

use crate::{Request, Response};

/// An application: takes a request and returns a response.
///
/// `call` runs on the pool thread that took the request, and holds the thread until it returns. Several threads call it
/// at the same time. A panic in `call` turns that one answer into a 500; the thread survives. If the action of
/// a stream panics after its first write, the answer is cut off.
///
/// Every closure with this signature is an app. A type with its own state can implement the trait and is started with
/// [`Server::start_app`](crate::Server::start_app).
///
/// ```
/// use ninetabs_server::{App, Request, Response};
///
/// struct Greeter(String);
///
/// impl App for Greeter {
///     fn call(&self, request: &Request) -> Response {
///         match request.path() {
///             "/" => Response::text(format!("hello, {}", self.0)),
///             _ => Response::not_found(),
///         }
///     }
/// }
///
/// let app = Greeter("nine".into());
/// assert_eq!(app.call(&Request::builder().path("/").build().unwrap()).status_code(), 200);
/// ```
pub trait App: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: &Request) -> Response;
}

impl<F: Fn(&Request) -> Response + Send + Sync + 'static> App for F {
    fn call(&self, request: &Request) -> Response {
        self(request)
    }
}
