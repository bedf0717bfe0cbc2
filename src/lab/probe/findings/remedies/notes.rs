//! Remedies of notes.

use std::time::Duration;

use super::super::evidence::time;
use super::super::products::Product::*;
use super::super::products::Recognized;

pub(in super::super) fn buffered(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Send X-Accel-Buffering: no, or set proxy_buffering off. Then probe again: the limit stays.",
        Some(Apache) => "Set flushpackets=on on the ProxyPass line, and exclude the stream from mod_deflate.",
        Some(Caddy) => "Set flush_interval -1 in reverse_proxy.",
        Some(Lighttpd) => "Set server.stream-response-body = 2: without it, lighttpd keeps the stream to itself and does not \
                           notice that its client has left.",
        Some(HaProxy) => "Remove option http-buffer-request and compression for the stream.",
        Some(Varnish) => "Set beresp.do_stream = true, or pass the stream with return (pipe).",
        Some(PhpFpm | PhpCli) => "Call ob_end_flush() and flush() after each event; behind nginx, set fastcgi_buffering off.",
        Some(Puma | Ninetabs) => "Look for middleware that computes an ETag or the length of the body. Set \
                                  Last-Modified: without it, Rack::ETag holds the stream back.",
        _ => "Send X-Accel-Buffering: no, or switch the proxy's buffering off. Inside the application, look for code \
              that computes an ETag or a length, and for output buffers.",
    }
    .to_owned()
}

pub(in super::super) fn compressed(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Leave text/event-stream out of gzip_types.",
        Some(Apache) => {
            "Set no-gzip for the stream's path (SetEnvIf Request_URI), or leave text/event-stream out of \
                         AddOutputFilterByType DEFLATE."
        }
        Some(Caddy) => "Leave text/event-stream out of encode's match.",
        Some(Tomcat) => "Leave text/event-stream out of compressibleMimeType.",
        Some(Node) => {
            "Leave text/event-stream out of compression()'s filter, or call res.flush() after each event."
        }
        Some(Puma | Ninetabs | Unicorn | Falcon) => {
            "Leave text/event-stream out of Rack::Deflater, or flush after each event."
        }
        _ => "Leave text/event-stream out of the compression, or flush it after each event.",
    }
    .to_owned()
}

pub(in super::super) fn late_first_event(recognized: &Recognized) -> String {
    if recognized.is_puma_by_statistics() {
        return "This happens once per stream: see docs/puma.md.".to_owned();
    }
    String::new()
}

pub(in super::super) fn grows(recognized: &Recognized) -> String {
    match recognized.product {
        Some(Puma) => "Set the minimum number of threads to the maximum (-t 8:8), and preload workers.",
        Some(Ninetabs) => "Set the minimum number of threads to the maximum (--threads 8:8).",
        Some(Apache) => "Raise MinSpareServers or MinSpareThreads, and StartServers.",
        Some(PhpFpm) => "Set pm = static, or raise pm.min_spare_servers.",
        Some(Passenger) => "Set passenger_min_instances to the pool's maximum.",
        Some(Uwsgi) => "Set a fixed number of processes instead of using cheaper.",
        Some(Tomcat) => "Raise minSpareThreads.",
        Some(Kestrel | Iis) => "Raise ThreadPool.SetMinThreads.",
        _ => "Keep more spare threads or processes, or a fixed number.",
    }
    .to_owned()
}

pub(in super::super) fn cut(recognized: &Recognized, how: &str, age: Option<Duration>) -> String {
    if how == "finished" {
        return "The streams finish by themselves. To measure a limit, ask for an answer that lasts longer."
            .to_owned();
    }
    let age = age.map_or_else(|| "that age".to_owned(), time);
    let resume = "Make clients resume by id (Last-Event-ID).";
    match recognized.product {
        Some(Gunicorn) => {
            "gunicorn's --timeout kills a worker that streams, unless it uses threads or -k gevent."
                .to_owned()
        }
        Some(Nginx) => format!(
            "Look for a timeout of {age}: proxy_read_timeout, send_timeout, or the server behind nginx. {resume}"
        ),
        Some(HaProxy) => {
            format!("Look for a timeout of {age}: timeout server, timeout client, timeout tunnel. {resume}")
        }
        Some(Apache) => {
            format!("Look for a timeout of {age}: Timeout, ProxyTimeout, RequestReadTimeout. {resume}")
        }
        Some(PhpFpm | PhpCli) => {
            format!("Look for {age} in max_execution_time and request_terminate_timeout. {resume}")
        }
        Some(Unicorn) => {
            format!("timeout in unicorn.rb kills a worker after {age}: a worker that streams counts as hung.")
        }
        Some(Uwsgi) => format!("Look for {age} in harakiri and http-timeout. {resume}"),
        Some(Puma | Ninetabs) => {
            format!("Look for {age} in worker_timeout, Rack::Timeout, or a maximum age. {resume}")
        }
        Some(Passenger) => format!("Look for {age} in passenger_max_request_time. {resume}"),
        Some(Tomcat | Jetty | Undertow) => format!(
            "Look for {age} in the asynchronous request's timeout (SseEmitter, AsyncContext). {resume}"
        ),
        Some(Node) => format!("Look for {age} in server.requestTimeout and server.timeout. {resume}"),
        _ => format!("Look for a timeout of {age} in the server and in each proxy before it. {resume}"),
    }
}

pub(in super::super) fn slot_return() -> String {
    "Write a heartbeat every few seconds, so that the server notices closed clients; give streams a maximum age."
        .to_owned()
}

pub(in super::super) fn leak(recognized: &Recognized) -> String {
    let restart = match recognized.product {
        Some(Puma) => "Restart the server now (pumactl restart).",
        Some(Ninetabs) => "Restart the server now (ninetabs ctl stop, then serve).",
        Some(Gunicorn) => "Restart the workers now (kill -HUP).",
        Some(PhpFpm) => "Restart PHP-FPM now.",
        _ => "Restart the server now.",
    };
    format!(
        "{restart} Then give streams a maximum age and heartbeats, so that the server notices clients that left."
    )
}

pub(in super::super) fn zombies(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Nginx) => "Set send_timeout and a maximum age for streams.",
        Some(HaProxy) => "Set timeout client and a maximum age for streams.",
        Some(Ninetabs) => "Set --max-stream-age: a write blocks, and --write-timeout counts, only once the kernel's buffers are full.",
        _ => "Set a write timeout and a maximum age for streams.",
    }
    .to_owned()
}

pub(in super::super) fn several_queues(recognized: &Recognized) -> String {
    match recognized.nearest() {
        Some(Puma) => {
            "Use one process with as many threads in total (-w 0 -t 16:16), or a balancer that counts connections."
        }
        Some(Gunicorn) => {
            "Use one worker with as many threads in total (-w 1 -k gthread --threads N), or a balancer that counts \
                           connections."
        }
        Some(Nginx) => "Set least_conn in the upstream, or use one process with as many threads in total.",
        Some(HaProxy) => "Set balance leastconn, or use one process with as many threads in total.",
        _ => "Use one process with as many threads in total, or a balancer that counts connections.",
    }
    .to_owned()
}

pub(in super::super) fn stats_disagree(program: &str) -> String {
    let program = if program.is_empty() { "the server" } else { program };
    format!(
        "The limit is not {program}'s thread pool, but something in front of it or behind it: see the limit."
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::super::measured::{Measured, ProbeTarget};
    use super::*;

    #[test]
    fn the_remedies_for_ninetabs_name_only_features_that_it_has() {
        let target = ProbeTarget { server: Some("ninetabs".to_owned()), ..ProbeTarget::default() };
        let ninetabs = Recognized::of(&Measured { target, ..Measured::default() });
        // The control server of ninetabs answers a restart order with 404.
        assert!(!leak(&ninetabs).contains("ctl restart"), "{}", leak(&ninetabs));
        assert!(leak(&ninetabs).contains("ninetabs ctl stop"), "{}", leak(&ninetabs));
        // `--max-stream-age` is not the only way to end a blocked write: the write timeout does so as well.
        assert!(!zombies(&ninetabs).contains("nothing else"), "{}", zombies(&ninetabs));
    }
}
