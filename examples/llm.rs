//! The output of a language model, streamed token by token to `fetch` with POST.
//!
//! A streamed answer holds its thread for as long as the model writes. The example therefore caps the
//! streams: further questions are refused at once, and pages always find a thread. A maximum age frees the
//! thread of a client that stopped reading. The model is a stand-in: it repeats the question, word by
//! word.
//!
//! ```sh
//! cargo run --example llm
//! curl -N -d 'why does the ninth tab wait' http://127.0.0.1:3000/chat
//! ```

use std::env;
use std::time::Duration;

use ninetabs_server::{Event, Request, Response, Server};

const THREADS: usize = 8;
/// The maximum number of answers at the same time. The other threads are for pages.
const ANSWERS: usize = THREADS - 2;

const PAGE: &str = "<!doctype html><title>ask</title>
<form><input name=question value='why does the ninth tab wait'><button>ask</button></form><p id=answer></p>
<script>
document.forms[0].onsubmit = async event => {
  event.preventDefault();
  const answer = document.getElementById('answer');
  answer.textContent = '';
  const response = await fetch('/chat', { method: 'POST', body: event.target.question.value });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', read; !(read = await reader.read()).done;) {
    const lines = (rest + read.value).split('\\n');
    rest = lines.pop();
    lines.filter(it => it.startsWith('data: ')).forEach(it => answer.append(it.slice(6), ' '));
  }
};
</script>";

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    Server::bind(address)
        .threads(THREADS..=THREADS)
        .stream_cap(ANSWERS)
        .max_stream_age(Duration::from_secs(60))
        .serve(|request| match (request.method().as_str(), request.path()) {
            ("GET", "/") => Response::html(PAGE),
            ("POST", "/chat") => answer(request),
            _ => Response::not_found(),
        })
}

fn answer(request: &Request) -> Response {
    let question = request.body().read().unwrap_or_default();
    let question = String::from_utf8_lossy(&question).into_owned();
    Response::events(move |stream| {
        for token in question.split_whitespace() {
            stream.send(Event::data(token))?;
            stream.sleep(Duration::from_millis(100))?;
        }
        stream.send(Event::data("[done]"))
    })
}
