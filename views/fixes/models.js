// Shared by the pages of fixes: a list of the newest rows, newest first, and the latency of a small page.
const MOST_ROWS = 8;
const ASK_EVERY_MS = 1000;
const TITLE = document.title;
let shown = 0;
const at = id => document.getElementById(id);

// In a tile of the wall, only the newest row is shown, and the requests carry the number of the tile.
const ADDRESS = new URLSearchParams(location.search);
const IS_TILE = ADDRESS.get('view') === 'tile';
if (IS_TILE) {
  document.documentElement.dataset.view = 'tile';
}

// The path with the name of this tab, by which the server's record identifies it.
function named(path, name) {
  const tab = ADDRESS.get('tab') ?? name;
  return tab === null ? path : path + (path.includes('?') ? '&' : '?') + 'tab=' + encodeURIComponent(tab);
}

function write(id, text) {
  at(id).textContent = text;
}

// Shows the newest row in the title as well, for users with many tabs.
function tell(model) {
  shown += 1;
  document.title = 'row ' + model.id + ' (' + shown + '), ' + TITLE;
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

// Until the answer arrives, the waiting time is shown. The wall measures the latency itself.
async function askForAPage() {
  if (IS_TILE) {
    return;
  }
  const began = performance.now();
  const waits = setInterval(() => write('page', 'waiting for ' + Math.round((performance.now() - began) / 1000) + ' s'), ASK_EVERY_MS);
  try {
    await fetch('/up', { cache: 'no-store' });
    write('page', (performance.now() - began).toFixed(1) + ' ms');
  } catch {
    write('page', 'no answer');
  }
  clearInterval(waits);
  setTimeout(askForAPage, ASK_EVERY_MS);
}

// Correct only if the server runs on this machine, since both times must come from the same clock.
function showDelay(models) {
  if (models.length) {
    write('delay', Math.max(0, Date.now() - Date.parse(models.at(-1).created_at)) + ' ms');
  }
}
