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
