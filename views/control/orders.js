// An order to the control server. The token stands in this page and nowhere else;
// without it, in a header, a browser can change nothing.
const TOKEN = document.body.dataset.token;

// Resolves to { ok, status, said }: an object where the answer is JSON, else its line.
// Never rejects: a server that cannot be reached is an answer like another.
async function order(path) {
  try {
    const answer = await fetch(path, { method: 'POST', headers: { 'x-ninetabs-token': TOKEN } });
    const text = await answer.text();
    let said = text.trim();
    try {
      said = JSON.parse(text);
    } catch {
      // It is a line of words.
    }
    return { ok: answer.ok, status: answer.status, said };
  } catch {
    return { ok: false, status: 0, said: 'the control server cannot be reached' };
  }
}

// The server's reason. Where the operator has set a token it says Puma's words only.
const refusedWords = said => said === 'Invalid auth token' ? 'refused: this page’s token is not the server’s; load the page again' : String(said);

// What is wrong with what was typed, in words; null if it can be ordered. A server that has a
// reason of its own says it.
const wrongThreads = text => /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 10000 ? null : 'Threads: a number from 1 to 10,000.';
const wrongAge = text => text === 'off' || (/^\d*\.?\d+$/.test(text) && Number(text) > 0) ? null : 'Maximum age: seconds, or off.';

// Sends a form's field with the order, unless it is wrong: `refuse` gets the words then.
function onSubmit(form, name, wrong, refuse, send) {
  form.addEventListener('submit', e => {
    e.preventDefault();
    const field = form.elements[name];
    const text = field.value.trim();
    const words = wrong(text);
    field.setAttribute('aria-invalid', String(words !== null));
    if (words === null) {
      send(encodeURIComponent(text));
    } else {
      refuse(words);
    }
  });
}

function ageWords(age) {
  return age === null ? 'Streams may grow as old as they like.' : 'Streams older than ' + age + ' s are told to end.';
}
