// What the pages have in common: a list of the newest models, the last on top.
const MOST_ROWS = 8;
const at = id => document.getElementById(id);

function write(id, text) {
  at(id).textContent = text;
}

function showModel(model) {
  const row = document.createElement('li');
  for (const text of [model.id, model.name]) {
    row.append(Object.assign(document.createElement('span'), { textContent: text }));
  }
  at('models').prepend(row);
  at('models').children[MOST_ROWS]?.remove();
}
