//! Recognizes the server's program from its responses, its listening process and its statistics.

use super::super::measured::Measured;

/// A server or proxy whose settings the remedies name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Product {
    Ninetabs,
    Puma,
    Unicorn,
    Passenger,
    Falcon,
    Thin,
    WebRick,
    Gunicorn,
    Waitress,
    Uwsgi,
    Werkzeug,
    Uvicorn,
    Hypercorn,
    Daphne,
    Cheroot,
    Tornado,
    Aiohttp,
    PhpFpm,
    PhpCli,
    Tomcat,
    Jetty,
    Undertow,
    Node,
    Kestrel,
    Iis,
    Nginx,
    Apache,
    HaProxy,
    Caddy,
    Traefik,
    Envoy,
    Lighttpd,
    Varnish,
}

use Product::*;

/// Words in a `Server` header, in the statistics or in a process name, in lower case. The first word that occurs
/// decides. If a header contains two of them, the more specific one therefore has to come first.
const HEADER_WORDS: &[(&str, Product)] = &[
    ("ninetabs", Ninetabs),
    ("passenger", Passenger),
    ("puma", Puma),
    ("unicorn", Unicorn),
    ("falcon", Falcon),
    ("webrick", WebRick),
    ("gunicorn", Gunicorn),
    ("waitress", Waitress),
    ("uwsgi", Uwsgi),
    ("werkzeug", Werkzeug),
    ("uvicorn", Uvicorn),
    ("hypercorn", Hypercorn),
    ("daphne", Daphne),
    ("cheroot", Cheroot),
    ("cherrypy", Cheroot),
    ("tornado", Tornado),
    ("aiohttp", Aiohttp),
    ("tomcat", Tomcat),
    ("coyote", Tomcat),
    ("jetty", Jetty),
    ("undertow", Undertow),
    ("wildfly", Undertow),
    ("jboss", Undertow),
    ("kestrel", Kestrel),
    ("iis", Iis),
    ("node", Node),
    ("openresty", Nginx),
    ("nginx", Nginx),
    ("haproxy", HaProxy),
    ("caddy", Caddy),
    ("traefik", Traefik),
    ("envoy", Envoy),
    ("lighttpd", Lighttpd),
    ("varnish", Varnish),
    ("apache", Apache),
    ("thin", Thin),
];

/// Words that occur in process names, but not in `Server` headers.
const PROCESS_WORDS: &[(&str, Product)] = &[("fpm", PhpFpm), ("php", PhpCli), ("httpd", Apache)];

/// Programs that are used as a proxy in front of other servers.
const FRONTS: [Product; 8] = [Nginx, Apache, HaProxy, Caddy, Traefik, Envoy, Varnish, Lighttpd];

/// Prefixes of the process names of language interpreters.
const INTERPRETERS: [&str; 6] = ["python", "ruby", "node", "php", "java", "perl"];

/// The platform of an application, if a cookie's name or the server's program reveals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Runtime {
    Php,
    Java,
    Ruby,
    Python,
    JavaScript,
    DotNet,
}

/// The server, as far as it was recognized.
#[derive(Debug, Clone, Default)]
pub(super) struct Recognized {
    /// The program that answers, from the statistics, the `Server` header, or the listener's name.
    pub product: Option<Product>,
    /// The proxy in front, even if the statistics name the server behind it.
    pub front: Option<Product>,
    /// The platform of the application.
    pub runtime: Option<Runtime>,
    /// Whether the process that listens is the application itself.
    pub is_the_application: bool,
    /// The maximum number of threads that the statistics report.
    pub max_threads: Option<u64>,
    /// Whether the statistics are those of Puma or of ninetabs.
    statistics_say_puma: bool,
}

impl Recognized {
    /// A server whose program is known by name.
    pub(super) fn by_name(product: Product) -> Recognized {
        let front = Some(product).filter(is_a_front);
        Recognized { product: Some(product), front, ..Recognized::default() }
    }

    /// Recognizes a server from the statistics, the `Server` header, the processes and the cookies.
    pub(super) fn of(measured: &Measured) -> Recognized {
        let figures = measured.statistics.iter().find_map(|asked| asked.figures.as_ref());
        let program = figures.map(|figures| figures.program.to_lowercase());
        let by_statistics = program.as_deref().and_then(|name| find(HEADER_WORDS, name));
        let header = measured.target.server.as_deref().map(str::to_lowercase);
        let by_header = header.as_deref().and_then(|header| find(HEADER_WORDS, header));
        let listeners = measured.listeners_before.iter().chain(&measured.listeners_at_limit);
        let is_the_application = listeners.clone().any(|listener| is_an_interpreter(&listener.name));
        let by_process = listeners
            .map(|listener| listener.name.to_lowercase())
            .find_map(|name| find(PROCESS_WORDS, &name).or_else(|| find(HEADER_WORDS, &name)));
        let runtime = measured.target.sets_cookies.iter().find_map(|name| runtime_of_cookie(name));
        Recognized {
            product: by_statistics.or(by_header).or(by_process),
            front: by_header.or(by_process).filter(is_a_front),
            is_the_application,
            runtime: runtime.or_else(|| by_header.or(by_process).and_then(runtime_of)),
            max_threads: figures.and_then(|figures| figures.max_threads),
            statistics_say_puma: matches!(by_statistics, Some(Puma | Ninetabs)),
        }
    }

    pub(super) fn is_puma_by_statistics(&self) -> bool {
        self.statistics_say_puma
    }

    /// Whether the program that answers may be a proxy in front of another server.
    pub(super) fn is_front(&self) -> bool {
        self.front.is_some()
    }

    /// The program that accepts the clients' connections: the proxy, if there is one.
    pub(super) fn nearest(&self) -> Option<Product> {
        self.front.or(self.product)
    }
}

fn is_a_front(product: &Product) -> bool {
    FRONTS.contains(product)
}

/// Whether a process name is that of a language interpreter. A proxy runs under its own name.
fn is_an_interpreter(name: &str) -> bool {
    let name = name.to_lowercase();
    INTERPRETERS.iter().any(|interpreter| name.starts_with(interpreter))
}

/// The first product whose word begins one of the alphanumeric parts of the text: `TornadoServer`, `Apache-Coyote`,
/// `hypercorn-h11`.
fn find(words: &[(&str, Product)], text: &str) -> Option<Product> {
    let has = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|part| part.starts_with(word));
    words.iter().find(|(word, _)| has(word)).map(|(_, product)| *product)
}

/// The platform, from the name of the session cookie that its frameworks set.
fn runtime_of_cookie(name: &str) -> Option<Runtime> {
    let name = name.to_lowercase();
    let rails = name.starts_with('_') && name.ends_with("_session");
    Some(match &*name {
        "phpsessid" | "laravel_session" | "ci_session" => Runtime::Php,
        "jsessionid" => Runtime::Java,
        "rack.session" | "_session_id" => Runtime::Ruby,
        _ if rails => Runtime::Ruby,
        "sessionid" | "csrftoken" => Runtime::Python,
        "connect.sid" => Runtime::JavaScript,
        _ if name.starts_with(".aspnetcore") || name == "asp.net_sessionid" => Runtime::DotNet,
        _ => return None,
    })
}

/// The platform of the applications that a program serves.
fn runtime_of(product: Product) -> Option<Runtime> {
    Some(match product {
        Puma | Unicorn | Passenger | Falcon | Thin | WebRick => Runtime::Ruby,
        Gunicorn | Waitress | Uwsgi | Werkzeug | Uvicorn | Hypercorn | Daphne | Cheroot | Tornado
        | Aiohttp => Runtime::Python,
        PhpFpm | PhpCli => Runtime::Php,
        Tomcat | Jetty | Undertow => Runtime::Java,
        Node => Runtime::JavaScript,
        Kestrel | Iis => Runtime::DotNet,
        Ninetabs | Nginx | Apache | HaProxy | Caddy | Traefik | Envoy | Lighttpd | Varnish => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::measured::{
        ListeningProcess, ProbeTarget, StatFigures, Statistics, StatsMoment,
    };
    use super::super::remedies;
    use super::*;

    fn by_header(header: &str) -> Option<Product> {
        let target = ProbeTarget { server: Some(header.to_owned()), ..ProbeTarget::default() };
        Recognized::of(&Measured { target, ..Measured::default() }).product
    }

    #[test]
    fn a_server_header_names_the_program() {
        assert_eq!(by_header("gunicorn"), Some(Gunicorn));
        assert_eq!(by_header("Werkzeug/3.0.1 Python/3.11.2"), Some(Werkzeug));
        assert_eq!(by_header("nginx/1.22.1 + Phusion Passenger(R) 6.0"), Some(Passenger));
        assert_eq!(by_header("Apache-Coyote/1.1"), Some(Tomcat));
        assert_eq!(by_header("Apache/2.4.57 (Debian)"), Some(Apache));
        assert_eq!(by_header("Microsoft-IIS/10.0"), Some(Iis));
        assert_eq!(by_header("custom"), None);
    }

    #[test]
    fn statistics_take_precedence_over_the_server_header() {
        let figures = StatFigures { program: "Puma".to_owned(), ..StatFigures::default() };
        let target = ProbeTarget { server: Some("nginx".to_owned()), ..ProbeTarget::default() };
        let statistics = vec![Statistics { moment: StatsMoment::Before, figures: Some(figures) }];
        let recognized = Recognized::of(&Measured { target, statistics, ..Measured::default() });
        assert_eq!(recognized.product, Some(Puma));
        assert!(recognized.is_puma_by_statistics());
    }

    #[test]
    fn without_a_header_the_process_name_or_a_cookie_decides() {
        let listener =
            ListeningProcess { pid: 1, name: "php".to_owned(), threads: 1, descriptors: 4, limit: 1024 };
        let measured = Measured { listeners_before: vec![listener], ..Measured::default() };
        assert_eq!(Recognized::of(&measured).product, Some(PhpCli));
        let target = ProbeTarget { sets_cookies: vec!["_shop_session".to_owned()], ..ProbeTarget::default() };
        let recognized = Recognized::of(&Measured { target, ..Measured::default() });
        assert_eq!((recognized.product, recognized.runtime), (None, Some(Runtime::Ruby)));
    }

    #[test]
    fn statistics_of_the_server_behind_do_not_hide_the_proxy() {
        let figures = StatFigures { program: "Puma".to_owned(), ..StatFigures::default() };
        let target = ProbeTarget { server: Some("nginx".to_owned()), ..ProbeTarget::default() };
        let statistics = vec![Statistics { moment: StatsMoment::Before, figures: Some(figures) }];
        let recognized = Recognized::of(&Measured { target, statistics, ..Measured::default() });
        assert_eq!((recognized.product, recognized.nearest()), (Some(Puma), Some(Nginx)));
        assert!(recognized.is_front());
        assert!(remedies::buffered(&recognized).contains("proxy_buffering off"));
    }

    #[test]
    fn lighttpd_is_a_front_that_can_buffer() {
        let target = ProbeTarget { server: Some("lighttpd/1.4.69".to_owned()), ..ProbeTarget::default() };
        let recognized = Recognized::of(&Measured { target, ..Measured::default() });
        assert!(recognized.is_front());
        assert!(remedies::buffered(&recognized).contains("server.stream-response-body"));
        assert!(remedies::workers(&recognized, true).contains("behind lighttpd"));
    }
}
