//! Converts the typed arguments to requests: the stream, the pages, headers, cookies and body. Names are not
//! resolved here.

use data_encoding::BASE64;
use url::Url;

use super::args::ProbeArgs;
use super::mistake::ProbeMistake;
use crate::cli::control_client::ControlUrl;
use crate::cli::files::read_small;
use crate::lab::http::{FieldError, HttpError, Schemes, check_method, parse_field, parse_url_of};

/// The target of a probe. Names are not resolved yet.
#[derive(Clone)]
pub struct Wanted {
    /// The stream.
    pub url: Url,
    /// The pages; there is at least one.
    pub pages: Vec<Url>,
    /// Method of the streams.
    pub method: String,
    /// Body of the streams' requests.
    pub body: Option<Vec<u8>>,
    /// Headers of every request.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `--cookie`
    pub cookie: Option<String>,
    /// `--other-cookie`
    pub other_cookie: Option<String>,
    /// Host, port and token of the control server.
    pub control: Option<(String, u16, Option<String>)>,
    /// `--tabs`
    pub tabs: usize,
    /// `--patience`
    pub patience: Option<std::time::Duration>,
    /// `--zombies`
    pub zombies: Option<usize>,
    /// `--http10`
    pub http10: bool,
    /// `--http2`
    pub http2: bool,
    /// `--insecure`
    pub is_insecure: bool,
    /// `--i-own-this-host`
    pub is_confirmed: bool,
}

/// Checks everything that was typed.
pub fn wanted(args: &ProbeArgs) -> Result<Wanted, ProbeMistake> {
    let url = stream(&args.url)?;
    let pages = pages(&url, &args.pages)?;
    let mut headers = args.headers.iter().map(|text| header(text)).collect::<Result<Vec<_>, _>>()?;
    let has = |headers: &[(String, Vec<u8>)], name: &str| {
        headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let has_cookie = has(&headers, "cookie");
    if has_cookie && args.cookie.is_some() {
        return Err(ProbeMistake::TwoCookies);
    }
    if !has_cookie && args.cookie.is_none() && args.other_cookie.is_some() {
        return Err(ProbeMistake::OtherCookieAlone);
    }
    if let Some(user) = &args.user
        && !has(&headers, "authorization")
    {
        headers.push(("Authorization".to_owned(), basic(user)?));
    }
    let body = args.data.as_deref().map(body).transpose()?;
    // A `-H` without a value counts as given, so no header of that name is added.
    if body.is_some() && !has(&headers, "content-type") {
        headers.push(("Content-Type".to_owned(), b"application/json".to_vec()));
    }
    let control = match &args.control_url {
        None => None,
        Some(ControlUrl::Unix(_)) => return Err(ProbeMistake::ControlSocket),
        Some(ControlUrl::Tcp { host, port }) => {
            let token = args.control.token.0.as_ref().map(|token| token.reveal().to_owned());
            Some((host.clone(), *port, token))
        }
    };
    if let Some(zombies) = args.zombies.filter(|zombies| zombies + 2 > args.tabs) {
        return Err(ProbeMistake::Zombies { zombies, most: args.tabs - 2 });
    }
    Ok(Wanted {
        url,
        pages,
        method: method(args.method.as_deref(), body.is_some())?,
        body,
        headers,
        cookie: cookie("--cookie", args.cookie.as_deref())?,
        other_cookie: cookie("--other-cookie", args.other_cookie.as_deref())?,
        control,
        tabs: args.tabs,
        patience: args.patience,
        zombies: args.zombies,
        http10: args.http10,
        http2: args.http2,
        is_insecure: args.insecure,
        is_confirmed: args.i_own_this_host,
    })
}

fn header(text: &str) -> Result<(String, Vec<u8>), ProbeMistake> {
    parse_field(text).map_err(|error| match error {
        // The error does not repeat the text, since even the part before a colon may be a secret value.
        FieldError::NoColon | FieldError::Name(_) => ProbeMistake::Header,
        error => ProbeMistake::HeaderValue(error),
    })
}

fn stream(text: &str) -> Result<Url, ProbeMistake> {
    // Checked first, because the error for an invalid URL repeats the URL.
    if has_userinfo(text) {
        return Err(ProbeMistake::Userinfo { what: "the URL" });
    }
    if lacks_scheme(text) {
        return Err(ProbeMistake::NoScheme { url: text.to_owned() });
    }
    let mut url =
        parse_url_of(text, Schemes::HttpOrHttps).map_err(|error| ProbeMistake::Url(error.to_string()))?;
    url.set_fragment(None);
    Ok(url)
}

/// Whether a URL lacks only its scheme, as in `localhost:3000/stream`. curl accepts this form.
fn lacks_scheme(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let names_a_host = host.contains([':', '.']) || host == "localhost";
    !text.contains("://") && names_a_host && parse_url_of(&format!("http://{text}"), Schemes::Http).is_ok()
}

/// Whether an authority has a user, even if the text is not a valid URL.
fn has_userinfo(text: &str) -> bool {
    let rest = text.split_once("//").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().is_some_and(|authority| authority.contains('@'))
}

fn pages(stream: &Url, given: &[String]) -> Result<Vec<Url>, ProbeMistake> {
    if given.is_empty() {
        return page(stream, "/").map(|page| vec![page]);
    }
    let mut pages: Vec<Url> = Vec::new();
    for text in given {
        let page = page(stream, text)?;
        if !pages.contains(&page) {
            pages.push(page);
        }
    }
    Ok(pages)
}

fn page(stream: &Url, text: &str) -> Result<Url, ProbeMistake> {
    let refused = |why: String| ProbeMistake::Page { page: text.to_owned(), why };
    if !text.starts_with('/') || text.starts_with("//") {
        if has_userinfo(text) {
            return Err(ProbeMistake::Userinfo { what: "--page" });
        }
        if !text.contains("//") {
            return Err(refused("it is neither a path nor a URL".to_owned()));
        }
    }
    let mut page = stream.join(text).map_err(|error| refused(error.to_string()))?;
    page.set_fragment(None);
    let place =
        |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    if place(&page) != place(stream) {
        let host = stream.origin().ascii_serialization();
        return Err(ProbeMistake::OtherHost { page: text.to_owned(), host });
    }
    Ok(page)
}

fn method(given: Option<&str>, has_body: bool) -> Result<String, ProbeMistake> {
    let method = given.unwrap_or(if has_body { "POST" } else { "GET" });
    match check_method(method) {
        Ok(()) => Ok(method.to_owned()),
        Err(HttpError::BadMethod { why, .. }) => Err(ProbeMistake::Method { method: method.to_owned(), why }),
        Err(_) => Err(ProbeMistake::Method { method: method.to_owned(), why: "it cannot be sent" }),
    }
}

fn basic(user: &str) -> Result<Vec<u8>, ProbeMistake> {
    if !user.contains(':') || user.contains(['\r', '\n', '\0']) {
        return Err(ProbeMistake::User);
    }
    Ok(format!("Basic {}", BASE64.encode(user.as_bytes())).into_bytes())
}

fn cookie(flag: &'static str, given: Option<&str>) -> Result<Option<String>, ProbeMistake> {
    let is_one = |text: &str| text.contains('=') && !text.contains(['\r', '\n', '\0']);
    match given {
        Some(text) if !is_one(text) => Err(ProbeMistake::Cookie { flag }),
        given => Ok(given.map(str::to_owned)),
    }
}

fn body(data: &str) -> Result<Vec<u8>, ProbeMistake> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some(path) => match read_small(path.as_ref()) {
            Ok(text) => Ok(text.into_bytes()),
            Err(error) => Err(ProbeMistake::Data { path: path.to_owned(), error }),
        },
    }
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        probe: ProbeArgs,
    }

    /// The arguments after `ninetabs probe`.
    pub fn typed(words: &[&str]) -> ProbeArgs {
        Line::try_parse_from([&["probe"], words].concat()).unwrap_or_else(|error| panic!("{error}")).probe
    }

    fn refusal(words: &[&str]) -> String {
        wanted(&typed(words)).err().map(|error| error.to_string()).unwrap_or_else(|| panic!("{words:?}"))
    }

    const URL: &str = "http://127.0.0.1:3000/stream";

    #[test]
    fn the_page_at_the_root_is_the_default() {
        let wanted = wanted(&typed(&[URL])).unwrap();
        assert_eq!(wanted.pages, ["http://127.0.0.1:3000/".parse().unwrap()]);
        assert_eq!((wanted.method.as_str(), wanted.body, wanted.headers.len()), ("GET", None, 0));
    }

    #[test]
    fn pages_are_paths_or_urls_of_the_same_host() {
        let same = "http://127.0.0.1:3000/up?x=1#y";
        let given = wanted(&typed(&[URL, "--page", "/a", "--page", same, "--page", "/a"])).unwrap();
        let pages: Vec<&str> = given.pages.iter().map(Url::as_str).collect();
        assert_eq!(pages, ["http://127.0.0.1:3000/a", "http://127.0.0.1:3000/up?x=1"]);
        for (page, says) in [
            ("http://127.0.0.1:3001/", "another host"),
            ("https://127.0.0.1:3000/", "another host"),
            ("http://localhost:3000/", "another host"),
            ("//example.com/", "another host"),
            ("up", "neither a path nor a URL"),
            ("http://me:secret@127.0.0.1:3000/", "give -u"),
        ] {
            let said = refusal(&[URL, "--page", page]);
            assert!(said.contains(says) && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn data_implies_post_and_json_unless_another_method_or_type_is_given() {
        let given = |more: &[&str]| wanted(&typed(&[&[URL, "-d", "{}"], more].concat())).unwrap();
        let plain = given(&[]);
        assert_eq!((plain.method.as_str(), plain.body.as_deref()), ("POST", Some(&b"{}"[..])));
        assert_eq!(plain.headers, [("Content-Type".to_owned(), b"application/json".to_vec())]);
        assert_eq!(given(&["-X", "PUT"]).method, "PUT");
        assert_eq!(given(&["-H", "content-type: text/x"]).headers.len(), 1);
    }

    #[test]
    fn data_can_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("question.json");
        std::fs::write(&path, "{\"q\": 1}\n").unwrap();
        let given = wanted(&typed(&[URL, "-d", &format!("@{}", path.display())])).unwrap();
        assert_eq!(given.body.as_deref(), Some(&b"{\"q\": 1}\n"[..]));
        let said = refusal(&[URL, "-d", "@/nowhere/at/all"]);
        assert_eq!(
            said,
            "cannot read -d @/nowhere/at/all: no such file or directory; give the path of a file"
        );
    }

    #[test]
    fn curls_long_names_are_accepted() {
        let words =
            [URL, "--header", "A: b", "--request", "PUT", "--data", "x", "--user", "a:b", "--insecure"];
        let given = wanted(&typed(&words)).unwrap();
        let authorization = given.headers.iter().find(|(name, _)| name == "Authorization").unwrap();
        assert_eq!(authorization.1, b"Basic YTpi");
        assert!(given.is_insecure && given.method == "PUT");
        // As in curl, -H has precedence.
        let given = wanted(&typed(&[URL, "-u", "a:b", "-H", "authorization: Bearer x"])).unwrap();
        assert_eq!(given.headers, [("authorization".to_owned(), b"Bearer x".to_vec())]);
    }

    #[test]
    fn no_refusal_repeats_a_secret() {
        for words in [
            &["http://me:secret@127.0.0.1/"][..],
            &["http://secret@127.0.0.1:99999/"],
            &["me:secret@127.0.0.1/"],
            &[URL, "-u", "secret"],
            &[URL, "-u", "a:secret\n"],
            &[URL, "--cookie", "secret"],
            &[URL, "--cookie", "a=b", "--other-cookie", "secret"],
            &[URL, "-H", "Authorization secret"],
            &[URL, "-H", "Authorization secret: x"],
            &[URL, "-H", "Authorization: secret\nx"],
            &[URL, "-H", "Cookie: a=secret", "--cookie", "a=secret"],
            &[URL, "--other-cookie", "a=secret"],
        ] {
            let said = refusal(words);
            assert!(!said.contains("secret") && said.contains("give"), "{said}");
        }
    }

    #[test]
    fn the_method_head_and_urls_of_other_schemes_are_refused() {
        let said = refusal(&[URL, "-X", "HEAD"]);
        assert_eq!(said, "-X 'HEAD': its answer has no body; give a method such as GET or POST");
        assert!(refusal(&["ftp://127.0.0.1/"]).contains("http"));
        assert!(refusal(&["localhost:3000/stream"]).contains("give http://localhost:3000/stream"));
    }

    #[test]
    fn numbers_that_exceed_the_tabs_are_refused() {
        let said = refusal(&[URL, "--tabs", "10", "--zombies", "9"]);
        assert_eq!(said, "--zombies 9: give a number up to 8, or a greater number of --tabs");
        let said = typed(&[URL, "--tabs", "10", "--fail-below", "11"]).thresholds().unwrap_err().to_string();
        assert_eq!(said, "--fail-below 11: give a number up to the value of --tabs, 10");
        assert!(typed(&[URL, "--fail-below", "40"]).thresholds().is_ok());
    }

    #[test]
    fn a_control_server_has_a_host_and_a_port() {
        let given = wanted(&typed(&[URL, "--control-url", "http://127.0.0.1:9293", "--control-token", "x"]));
        assert_eq!(given.unwrap().control, Some(("127.0.0.1".to_owned(), 9293, Some("x".to_owned()))));
        assert!(refusal(&[URL, "--control-url", "unix:///tmp/x"]).contains("give tcp://HOST:PORT"));
    }
}
