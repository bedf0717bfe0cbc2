// What the pages have in common: a list of the newest models, the last on top, and how long a small page takes meanwhile.
const MOST_ROWS = 8;
const ASK_EVERY_MS = 1000;
const TITLE = document.title;
let shown = 0;
const at = id => document.getElementById(id);

function write(id, text) {
  at(id).textContent = text;
}

// The title says it, too: for whoever has many tabs, and sees one of them.
function tell(model) {
  shown += 1;
  document.title = 'model ' + model.id + ' (' + shown + '), ' + TITLE;
}

function showModel(model) {
  tell(model);
  const row = document.createElement('li');
  for (const text of [model.id, model.name]) {
    row.append(Object.assign(document.createElement('span'), { textContent: text }));
  }
  at('models').prepend(row);
  at('models').children[MOST_ROWS]?.remove();
}

// While there is no answer, how long it is waited for.
async function askForAPage() {
  const began = performance.now();
  const waits = setInterval(() => write('page', 'waits for ' + Math.round((performance.now() - began) / 1000) + ' s'), ASK_EVERY_MS);
  try {
    await fetch('/up', { cache: 'no-store' });
    write('page', (performance.now() - began).toFixed(1) + ' ms');
  } catch {
    write('page', 'no answer');
  }
  clearInterval(waits);
  setTimeout(askForAPage, ASK_EVERY_MS);
}

// Both clocks are this machine's, as long as the server runs here.
function showDelay(models) {
  if (models.length) {
    write('delay', Math.max(0, Date.now() - Date.parse(models.at(-1).created_at)) + ' ms');
  }
}
