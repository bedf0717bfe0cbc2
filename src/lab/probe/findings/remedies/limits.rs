//! Remedies of limits.

use std::time::Duration;

use super::super::super::measured::{Measured, WaitPlace};
use super::super::evidence::{count, time};
use super::super::products::Product::*;
use super::super::products::{Recognized, Runtime};

pub(in super::super) fn session_lock(recognized: &Recognized) -> String {
    match recognized.runtime {
        Some(Runtime::Php) => {
            "Call session_write_close() before the loop, or session_start(['read_and_close' => true])."
        }
        Some(Runtime::DotNet) => {
            "Set EnableSessionState to ReadOnly for the stream, or disable session state there."
        }
        Some(Runtime::Java) => {
            "Do not synchronize on the session during the stream; copy what it needs beforehand."
        }
        _ => "Release the session before the loop (PHP: session_write_close()), or open it for reading only.",
    }
    .to_owned()
}

pub(in super::super) fn blocked_loop(recognized: &Recognized) -> String {
    match (recognized.product, recognized.runtime) {
        (Some(Uvicorn | Hypercorn | Daphne | Aiohttp | Tornado), _) => {
            "Use await asyncio.sleep() and asynchronous clients in the loop, or make the endpoint a plain def, which \
             runs in a thread."
        }
        (_, Some(Runtime::JavaScript)) => {
            "Do not loop or call synchronous functions in the event loop: write from setInterval() or an async \
             generator, or use a worker thread."
        }
        _ => "The stream's loop runs inside the event loop: make it asynchronous, or move it to a thread.",
    }
    .to_owned()
}

pub(in super::super) fn one_at_a_time(recognized: &Recognized, place: Option<WaitPlace>) -> String {
    let general = match place {
        Some(WaitPlace::Read) => {
            "The request is read, so a lock inside the application can be the cause: remove it, or add threads or \
             processes."
        }
        _ => {
            "Serve with threads or processes, not with a development server that serves one request at a time."
        }
    };
    match recognized.product {
        Some(Puma | Ninetabs) => {
            "Start Puma with more threads (-t 5:5); in Rails, remove Rack::Lock (config.allow_concurrency)."
        }
        Some(Werkzeug) => {
            "Start with app.run(threaded=True), or with a real server: gunicorn -k gthread --threads N."
        }
        Some(Gunicorn) => "Add threads or workers: gunicorn -k gthread --threads N, or -w N.",
        Some(Waitress) => "Start with waitress-serve --threads=N.",
        Some(Uwsgi) => "Start with --processes N --threads N.",
        Some(Uvicorn) => "Start with --workers N, and do not block the event loop.",
        Some(WebRick) => "Use a threaded server such as Puma instead of WEBrick with a lock.",
        Some(Thin) => "Start thin with --threaded, or use Puma.",
        Some(Unicorn) => {
            "Raise worker_processes, or use a threaded server: one Unicorn worker serves one request."
        }
        Some(PhpCli) => "Start php -S with PHP_CLI_SERVER_WORKERS=N, or use PHP-FPM.",
        Some(PhpFpm) => "Raise pm.max_children in the pool's configuration.",
        _ => general,
    }
    .to_owned()
}

pub(in super::super) fn database_pool(recognized: &Recognized) -> String {
    match recognized.runtime {
        _ if recognized.product == Some(Ninetabs) => {
            "Return the connection between queries (--db-lease query), or give each thread one (--db-pool auto)."
        }
        Some(Runtime::Python) => {
            "Return the connection between queries (close the session before each sleep), or set pool_size and \
             max_overflow to at least the number of threads. Keep no transaction open around the stream."
        }
        Some(Runtime::Java) => {
            "Close the connection between queries, and set spring.jpa.open-in-view=false; or set maximumPoolSize to at \
             least the number of threads. Keep no transaction open around the stream."
        }
        Some(Runtime::Ruby) => RUBY_POOL,
        _ if recognized.product == Some(Puma) => RUBY_POOL,
        _ => {
            "Return the connection between queries, or give the pool at least as many connections as the server has \
             threads. Keep no transaction open around the stream."
        }
    }
    .to_owned()
}

const RUBY_POOL: &str = "Return the connection between queries (Rails 7.2 does), or set pool in database.yml to at \
                         least the number of threads. The threads are the next limit.";

pub(in super::super) fn queue_timeout(recognized: &Recognized, status: Option<u16>, t: Duration) -> String {
    let t = time(t);
    match (recognized.nearest(), status) {
        (Some(HaProxy), Some(503)) => {
            format!(
                "timeout queue is {t}, and maxconn of the server line is reached: raise maxconn to the number of \
                     requests that the server handles concurrently, and bound the streams."
            )
        }
        (Some(HaProxy), Some(504)) => {
            format!("timeout server is {t}: the workers behind HAProxy are held by streams.")
        }
        (Some(Nginx), Some(504)) => {
            format!(
                "proxy_read_timeout is {t}: the workers behind nginx are held by streams, so add some or bound the \
                     streams."
            )
        }
        (Some(Apache), _) => {
            format!("ProxyTimeout is {t}: add workers behind Apache, or raise max= of the ProxyPass line.")
        }
        (_, Some(503)) => format!(
            "The proxy's own queue gives up after {t}: raise its connection limit per server, or bound the streams \
             with a cap or a maximum age."
        ),
        (_, Some(504 | 502)) => format!(
            "The proxy's read timeout is {t}: the workers behind it are held by streams, so add some, or bound the \
             streams with a cap or a maximum age."
        ),
        _ => format!(
            "A queue gives up after {t}: add threads or processes, or bound the streams with a cap or a maximum age."
        ),
    }
}

pub(in super::super) fn refused_per_client(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Raise limit_conn for the zone by address, or count sessions in place of addresses; open one stream \
                        per browser.",
        Some(HaProxy) => "Raise the limit of sc_conn_cur (stick-table by src), or count sessions; open one stream per browser.",
        Some(Apache) => "Raise MaxConnPerIP or QS_SrvMaxConnPerIP; open one stream per browser.",
        _ => "Raise the limit per client address, or count sessions in its place: users behind one NAT share an address. \
              Open one stream per browser.",
    }
    .to_owned()
}

pub(in super::super) fn connections(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Raise worker_connections: a proxied stream takes two. Open one stream per browser.",
        Some(HaProxy) => "Raise maxconn (global, and of the frontend). Open one stream per browser.",
        Some(Apache) => "Raise MaxRequestWorkers, or use mpm_event. Open one stream per browser.",
        Some(Tomcat) => "Raise maxConnections of the Connector (server.tomcat.max-connections). Open one stream per browser.",
        Some(Jetty) => "Raise the ConnectionLimit, or remove it. Open one stream per browser.",
        Some(Waitress) => "Raise --connection-limit. Open one stream per browser.",
        Some(Gunicorn) => "Raise --worker-connections, or --threads for gthread. Open one stream per browser.",
        Some(Uvicorn) => "Raise --limit-concurrency. Open one stream per browser.",
        Some(Lighttpd) => "Raise server.max-connections. Open one stream per browser.",
        Some(Kestrel) => "Raise KestrelServerLimits.MaxConcurrentConnections. Open one stream per browser.",
        Some(Node) => "Raise server.maxConnections. Open one stream per browser.",
        Some(Ninetabs) => "Raise --max-connections or ulimit -n. Open one stream per browser.",
        _ => "Raise the connection limit (maxConnections, worker_connections, maxconn). Open one stream per browser.",
    }
    .to_owned()
}

pub(in super::super) fn descriptors(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Raise worker_rlimit_nofile, or LimitNOFILE= of the unit.",
        _ => "Raise the descriptor limit: LimitNOFILE= of the systemd unit, or ulimit -n in the shell that starts it.",
    }
    .to_owned()
}

pub(in super::super) fn refused(recognized: &Recognized, status: Option<u16>) -> String {
    let setting = match (recognized.nearest(), status) {
        // nginx answers so if none of its upstream servers accepts the request.
        (Some(Nginx), Some(502 | 504)) => {
            return "No upstream server of nginx accepted the stream. Check max_conns in the upstream block, a cap of the \
                    server behind nginx, and the error log of nginx."
                .to_owned();
        }
        (Some(Nginx), _) => {
            "limit_conn by server, or a cap of the application behind nginx, refuses the stream"
        }
        (Some(Uvicorn), _) => "--limit-concurrency refuses the stream",
        (Some(HaProxy), _) => "A rule or maxconn refuses the stream",
        (Some(Varnish), _) => {
            "max_connections of the backend, or a cap of the application behind Varnish, refuses the stream"
        }
        _ => "A cap refuses the stream",
    };
    let clients = match status {
        Some(200) => "an EventSource reconnects after an empty 200, by default after 3 s",
        Some(_) => {
            "an EventSource gives up for good after an error status, and reconnects after an empty 200 with `retry:`"
        }
        None => "an EventSource reconnects after a closed connection",
    };
    format!("{setting}. If that is intended, check that clients reconnect: {clients}.")
}

pub(in super::super) fn workers(recognized: &Recognized, is_behind: bool) -> String {
    if is_behind && recognized.is_front() && recognized.front == recognized.product {
        let front = match recognized.product {
            Some(Nginx) => "nginx",
            Some(Apache) => "Apache",
            Some(HaProxy) => "HAProxy",
            Some(Caddy) => "Caddy",
            Some(Lighttpd) => "lighttpd",
            _ => "the proxy",
        };
        return format!(
            "The limit is behind {front}: give the application's server more threads or processes. A cap or a maximum age \
             keeps threads free for pages."
        );
    }
    if recognized.product == Some(Puma) {
        let now = recognized.max_threads.map(|threads| format!(" than {threads}")).unwrap_or_default();
        return format!(
            "More threads{now} (-t, or threads in puma.rb), or more workers (-w). A maximum age or a cap keeps threads \
             free for pages; streams outside the pool hold none."
        );
    }
    match (recognized.product, recognized.runtime) {
        (Some(Ninetabs), _) => "More threads (--threads), --max-stream-age, or --stream-cap; /fixes/push holds no thread.",
        (Some(Gunicorn), _) => "More workers, or threads: gunicorn -k gthread --threads N.",
        (Some(Waitress), _) => "More threads: waitress-serve --threads=N.",
        (Some(Uwsgi), _) => "More processes or threads (--processes, --threads), or gevent (--gevent N).",
        (Some(Werkzeug), _) => "app.run(threaded=True), or a real server: gunicorn -k gthread --threads N.",
        (Some(Cheroot), _) => "More threads: server.thread_pool in CherryPy, numthreads in Cheroot.",
        (Some(Uvicorn | Hypercorn | Daphne), _) => "Make the stream asynchronous: plain functions share a pool of threads \
                                                    (40 in Starlette). Or more --workers.",
        (Some(Unicorn), _) => "More worker_processes, or a threaded server such as Puma: each stream takes a Unicorn worker.",
        (Some(Passenger), _) => "Raise passenger_max_pool_size (PassengerMaxPoolSize), or set \
                                 passenger_force_max_concurrent_requests_per_process 0 for an asynchronous application.",
        (Some(Thin), _) => "thin --threaded with a larger --threadpool-size, or Puma.",
        (Some(Falcon), _) => "More processes (--count), and no blocking calls in the stream.",
        (Some(WebRick), _) => "Raise MaxClients, or use Puma.",
        (Some(PhpFpm), _) => "Raise pm.max_children: each stream takes a PHP-FPM process.",
        (Some(PhpCli), _) => "PHP_CLI_SERVER_WORKERS=N, or PHP-FPM: each stream takes a worker.",
        (Some(Apache), Some(Runtime::Php)) => "Raise MaxRequestWorkers (mod_php), or pm.max_children (PHP-FPM).",
        (Some(Apache), _) => "Raise MaxRequestWorkers (ServerLimit × ThreadsPerChild), or use mpm_event.",
        (Some(Tomcat), _) => "Raise maxThreads of the Connector (server.tomcat.threads.max), or use an asynchronous servlet \
                              (SseEmitter).",
        (Some(Jetty), _) => "Raise maxThreads of the QueuedThreadPool, or use an asynchronous servlet.",
        (Some(Undertow), _) => "Raise task-max-threads of the worker (server.undertow.threads.worker), or dispatch to another \
                                executor.",
        (Some(Node), _) | (None, Some(Runtime::JavaScript)) => "Do not block the event loop; for blocking calls raise \
                                                                UV_THREADPOOL_SIZE, or add processes (cluster).",
        (Some(Iis), _) => "Raise maxConcurrentRequestsPerCPU and the application pool's queue, or make the action \
                           asynchronous.",
        (Some(Kestrel), _) => "Make the action asynchronous (await Task.Delay), or raise ThreadPool.SetMinThreads.",
        (Some(Nginx), _) => "All workers behind nginx are held: give the application's server more threads or \
                             processes.",
        (Some(HaProxy), _) => "Raise maxconn of the server line to the number of requests that the server handles \
                               concurrently, or add servers.",
        (None, Some(Runtime::Java)) => "Raise the server's maximum number of threads, or use an asynchronous servlet.",
        (None, Some(Runtime::Php)) => "Raise pm.max_children (PHP-FPM) or MaxRequestWorkers (mod_php).",
        (None, Some(Runtime::Ruby)) => "More threads or workers of the Ruby server (Puma: -t and -w). A maximum age or a cap \
                                        keeps threads free for pages.",
        _ => "More threads or processes. A maximum age or a cap keeps some for pages; streams outside the pool hold none.",
    }
    .to_owned()
}

pub(in super::super) fn stream_cap(recognized: &Recognized) -> String {
    match recognized.product {
        Some(HaProxy) => "Raise maxconn of the backend that serves the streams.",
        Some(Nginx) => "Raise max_conns of the upstream that serves the streams, or its server's threads.",
        Some(Ninetabs) => "Raise --max-io-threads.",
        Some(Puma) => "The streams have a pool or a quota of their own (max_io_threads): raise it.",
        _ => "Streams have a limit or a pool of their own: raise it.",
    }
    .to_owned()
}

pub(in super::super) fn shared_slots(recognized: &Recognized) -> String {
    match recognized.product {
        Some(Uvicorn | Hypercorn | Daphne) => {
            "Make the generator asynchronous (async def with await): plain generators share a pool of threads, 40 in \
             Starlette (anyio's total_tokens)."
        }
        _ => "Use an asynchronous generator, or give synchronous ones a larger pool.",
    }
    .to_owned()
}

pub(in super::super) fn http2_streams(recognized: &Recognized) -> String {
    match recognized.product {
        Some(Nginx) => "Open one stream per browser, or raise http2_max_concurrent_streams.",
        Some(Apache) => "Open one stream per browser, or raise H2MaxSessionStreams.",
        Some(HaProxy) => "Open one stream per browser, or raise tune.h2.max-concurrent-streams.",
        _ => {
            "Open one stream per browser (a SharedWorker), or raise the maximum number of concurrent HTTP/2 streams."
        }
    }
    .to_owned()
}

pub(in super::super) fn none_found(measured: &Measured) -> String {
    let is_tls = measured.target.url.starts_with("https:");
    let reached = measured.http2.as_ref().map(|http2| http2.reached);
    let about_browsers = match reached {
        Some(reached @ 1..) if is_tls => {
            format!("A browser uses one HTTP/2 connection here, and {} ran on one.", count(reached, "stream"))
        }
        _ => {
            let mut text =
                "A browser opens six connections per host over HTTP/1.1, so its seventh tab waits on any \
                            server. Share one stream per browser, or serve HTTP/2."
                    .to_owned();
            if is_tls && reached.is_none() {
                text += " --http2 shows whether this server does.";
            }
            text
        }
    };
    format!("The server is probably not what makes your tabs hang. {about_browsers}")
}

#[cfg(test)]
mod tests {
    use super::super::super::super::measured::ProbeTarget;
    use super::*;

    #[test]
    fn a_refusal_by_nginx_without_a_free_server_is_not_blamed_on_limit_conn() {
        let target = ProbeTarget { server: Some("nginx/1.22.1".to_owned()), ..ProbeTarget::default() };
        let nginx = Recognized::of(&Measured { target, ..Measured::default() });
        assert!(refused(&nginx, Some(503)).contains("limit_conn"));
        for status in [502, 504] {
            let remedy = refused(&nginx, Some(status));
            assert!(remedy.contains("max_conns") && !remedy.contains("limit_conn"), "{remedy}");
        }
    }
}
