// An order to the control server. The token is in this page only; without it, in a header, a
// browser can change nothing.
const TOKEN = document.body.dataset.token;

// Resolves to { ok, said }: `said` is an object if the answer is JSON, else its line. What a refusal
// says is always a line.
// It never rejects: a server that cannot be reached is an answer as well.
function order(path) {
  return ask(path, 'POST');
}

// The same for a path that changes nothing.
function look(path) {
  return ask(path, 'GET');
}

// Saves what the server answers as a file, by the name that the server gives it.
async function save(path) {
  try {
    const answer = await send(path, 'GET');
    if (!answer.ok) {
      return { ok: false, said: refusalWords((await answer.text()).trim()) };
    }
    const link = element('a');
    link.download = /filename="(.*)"/.exec(answer.headers.get('content-disposition'))?.[1] ?? '';
    link.href = URL.createObjectURL(await answer.blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60e3);
    return { ok: true, said: link.download };
  } catch {
    return { ok: false, said: UNREACHABLE };
  }
}

const UNREACHABLE = 'the control server cannot be reached';

function send(path, method) {
  return fetch(path, { method, headers: { 'x-ninetabs-token': TOKEN } });
}

async function ask(path, method) {
  try {
    const answer = await send(path, method);
    const text = await answer.text();
    let said = text.trim();
    try {
      said = JSON.parse(text);
    } catch {
      // It is a line of text.
    }
    return { ok: answer.ok, said: answer.ok ? said : refusalWords(said) };
  } catch {
    return { ok: false, said: UNREACHABLE };
  }
}

// The server's reason. With a token of the operator it is Puma's text, which does not say what to do.
function refusalWords(said) {
  return said === 'Invalid auth token' ? 'refused: this page’s token is out of date; load the page again' : String(said.error ?? said);
}

// What is wrong with an input, in words; null if it can be ordered.
const wrongThreads = text => /^\d+$/.test(text) && Number(text) <= 10000 ? (Number(text) >= 1 ? null : 'The number of threads must be 1 or more.')
  : 'Give a number of threads from 1 to 10,000.';
const wrongAge = text => text === 'off' || (/^\d*\.?\d+$/.test(text) && Number(text) > 0) ? null : 'Give seconds, such as 5, or off.';

function ageWords(age) {
  return age === null ? 'The maximum age is off.' : 'Streams older than ' + age + ' s are reaped.';
}

// After a reset.
function resetWords({ max, max_stream_age_s: age }) {
  return 'Everything is closed. ' + many(max, 'thread') + ', maximum age ' + (age === null ? 'off' : age + ' s') + '.';
}
