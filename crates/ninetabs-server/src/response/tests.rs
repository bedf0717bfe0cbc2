use super::super::request::tests::get;
use super::*;

fn lines(request: &Request, response: &Response) -> String {
    String::from_utf8(head(
        request,
        response,
        framing(request, response),
        AfterAnswer::kept_if(
            request.keeps_alive() && framing(request, response) != AnswerFraming::UntilClose,
        ),
    ))
    .unwrap()
}

#[test]
fn a_value_cannot_start_a_field() {
    let response = Response::not_found().with_header("x-name", "a\r\nset-cookie: b\0");
    assert!(lines(&get("/"), &response).contains("x-name: aset-cookie: b\r\n"));
}

#[test]
fn each_version_gets_a_framing_that_it_supports() {
    let mut request = get("/");
    let live = || Response::events(|_| Ok(()));
    assert_eq!(framing(&request, &live()), AnswerFraming::Chunked);
    assert!(!lines(&request, &Response::text("x")).contains("connection"));

    request.version = Version::Http10;
    assert_eq!(framing(&request, &live()), AnswerFraming::UntilClose);
    assert!(lines(&request, &live()).starts_with("HTTP/1.0 200 OK\r\n"));
    request.headers.push("Connection", b"keep-alive");
    assert!(lines(&request, &Response::text("x")).contains("connection: keep-alive\r\n"));
    // The answer ends with the connection, so it must not promise to keep the connection alive.
    assert!(!lines(&request, &live()).contains("connection"));
}

#[test]
fn a_head_does_not_reserve_memory_for_a_large_body() {
    let response = Response::new(StatusCode::OK, "text/html", vec![b'x'; 1_000_000]);
    let head = head(&get("/"), &response, framing(&get("/"), &response), AfterAnswer::Keep);
    assert!(head.capacity() < 1_000, "{}", head.capacity());
}

#[test]
fn json_and_text_get_default_fields_against_caching_and_sniffing() {
    let fields = |response: Response| {
        let names = ["x-content-type-options", "cache-control"];
        let response = response.with_default_headers().with_default_headers();
        let found = response.headers().filter(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(fields(Response::not_found()), "nosniff, no-store");
    let cached =
        Response::new(StatusCode::OK, "application/json", "[]").with_header("cache-control", "no-cache");
    assert_eq!(fields(cached), "no-cache, nosniff");
    let stream = Response::events(|_| Ok(()));
    assert_eq!(fields(stream), "no-cache");
    assert_eq!(fields(Response::detach(|_| ())), "");
}

#[test]
fn an_answer_never_has_two_lengths_and_an_app_may_set_the_length_for_a_head_request() {
    let framed = |request: &Request, response: Response| -> Vec<String> {
        let fields = |line: &&str| line.starts_with("content-") || line.starts_with("transfer-");
        lines(request, &response).lines().filter(fields).map(str::to_owned).collect()
    };
    let said = |response: Response| {
        response.with_header("content-length", "3").with_header("transfer-encoding", "gzip")
    };
    let page = || Response::bare(StatusCode::OK).with_body("hello");
    let live = || Response { headers: Vec::new(), ..Response::events(|_| Ok(())) };
    let mut request = get("/");
    assert_eq!(framed(&request, said(page())), ["content-length: 5"]);
    assert_eq!(framed(&request, said(live())), ["transfer-encoding: chunked"]);
    request.version = Version::Http10;
    assert_eq!(framed(&request, said(live())), [""; 0]);
    request.method = http::Method::HEAD;
    assert_eq!(framed(&request, page()), ["content-length: 5"]);
    assert_eq!(framed(&request, page().with_header("content-length", "3")), ["content-length: 3"]);
    let not_modified = page().with_status(StatusCode::NOT_MODIFIED).with_header("content-length", "3");
    assert_eq!(framed(&get("/"), not_modified), ["content-length: 3"]);
    // The new owner of the connection does its own framing.
    let detached = Response::detach(|_| ()).with_header("content-length", "3");
    assert_eq!(framed(&get("/"), detached), ["content-length: 3"]);
}

#[test]
fn an_app_can_end_the_connection_with_any_spelling_of_close() {
    let says = |value| Response::text("").with_header("connection", value).says_close();
    assert!(says("close") && says("Close") && says("te, close"));
    assert!(!says("keep-alive") && !says("close-not") && !Response::text("").says_close());
    let several = Response::text("").with_header("connection", "te").with_header("connection", "close");
    assert!(several.says_close());
}

#[test]
fn an_answer_that_cannot_have_a_body_is_sent_without_a_length() {
    assert_eq!(framing(&get("/"), &Response::status(StatusCode::NO_CONTENT)), AnswerFraming::None);
    assert_eq!(framing(&get("/"), &Response::status(StatusCode::NOT_MODIFIED)), AnswerFraming::None);
}
