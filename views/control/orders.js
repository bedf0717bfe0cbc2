// Orders to the control server. The token is in this page only. Without it in a header, a browser cannot change
// anything.
const TOKEN = document.body.dataset.token;

// Resolves to { ok, said }. `said` is an object if the answer is JSON, otherwise the text of the answer. For a refusal,
// it is always text. The promise is never rejected: if the server cannot be reached, `ok` is false.
function order(path) {
  return ask(path, 'POST');
}

// The same for a request that changes nothing.
function look(path) {
  return ask(path, 'GET');
}

// Saves the server's answer as a file, under the name that the server sends.
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
      // The answer is plain text.
    }
    return { ok: answer.ok, said: answer.ok ? said : refusalWords(said) };
  } catch {
    return { ok: false, said: UNREACHABLE };
  }
}

// The server's reason. If the operator has set a token, it is Puma's text, which does not say what to do.
function refusalWords(said) {
  return said === 'Invalid auth token' ? 'refused: this page’s token is out of date; load the page again' : String(said.error ?? said);
}

// The error message for an input; null if the input is valid.
const wrongThreads = text => /^\d+$/.test(text) && Number(text) <= 10000 ? (Number(text) >= 1 ? null : 'The number of threads must be 1 or more.')
  : 'Give a number of threads from 1 to 10,000.';
const wrongAge = text => text === 'off' || (/^\d*\.?\d+$/.test(text) && Number(text) > 0) ? null : 'Give seconds, such as 5, or off.';

function ageWords(age) {
  return age === null ? 'The maximum age is off.' : 'Streams older than ' + age + ' s are reaped.';
}

// The message after a reset.
function resetWords({ max, max_stream_age_s: age }) {
  return 'Everything is closed. ' + many(max, 'thread') + ', maximum age ' + (age === null ? 'off' : age + ' s') + '.';
}
