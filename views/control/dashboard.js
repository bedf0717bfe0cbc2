// The dashboard: the feed's numbers in their places, and the buttons.
const LINES_SHOWN = 60;
const PAGES_SHOWN = 5;
const feed = new Feed(TOKEN);
const at = id => document.getElementById(id);

showConnection(feed);
new Lanes(at('lanes'), feed);
new Todo(at('todo'), feed);

function put(id, value) {
  const text = value === null || value === undefined ? '–' : String(value);
  if (at(id).textContent !== text) {
    at(id).textContent = text;
  }
}

function inSeconds(value) {
  return value === null ? null : value.toFixed(1) + ' s';
}

// ---- Numbers.

function showNumbers() {
  const { stats, threads, ...rest } = feed.state;
  for (const name of ['busy_threads', 'running', 'max_threads', 'pool_capacity', 'backlog', 'requests_count']) {
    put(name, stats[name]);
  }
  put('streams_open', stats.streams.open);
  put('streams_disconnected', stats.streams.disconnected);
  put('streams_reaped', stats.streams.reaped);
  put('oldest_age', inSeconds(stats.streams.oldest_age_s));
  put('database', stats.database.busy + ' of ' + stats.database.size);
  put('connections', stats.connections.open);
  put('reactor', rest.reactor);
  put('listen_queue', rest.listen_queue);
  put('max_stream_age', rest.max_stream_age_s === null ? 'off' : rest.max_stream_age_s + ' s');
}

// A screen reader hears this line, so it changes once a second at the most.
let headlineAt = -Infinity;
function showHeadline() {
  const { stats, threads } = feed.state;
  const held = threads.filter(thread => thread.state === 'busy').length;
  const waits = stats.backlog === 1 ? '1 waits in todo' : stats.backlog + ' wait in todo';
  let words = held + ' of ' + stats.max_threads + ' threads ' + (held === 1 ? 'is held' : 'are held');
  if (stats.io_threads) {
    // They do not count against the pool, up to a number; whether it is full is not in these.
    words = held + (held === 1 ? ' thread is' : ' threads are') + ' held, ' + stats.io_threads + ' marked IO-bound; ' +
      (stats.backlog ? waits : 'nobody waits in todo') + '.';
  } else if (stats.pool_capacity === 0) {
    words = (held === 1 ? 'The only thread is held' : 'All ' + held + ' threads are held');
    words += stats.backlog ? ', and ' + waits + ': whoever comes now waits behind them.' : ': whoever comes now waits in todo.';
  } else {
    words += stats.backlog ? ', and ' + waits + '.' : '; whoever comes now is served at once.';
  }
  if (at('headline').textContent !== words && performance.now() - headlineAt > 1000) {
    headlineAt = performance.now();
    at('headline').textContent = words;
  }
}

// ---- What is open in the lab.

const chips = new Map();
function showTabs(tabs) {
  const open = new Set(tabs.map(tab => tab.tab));
  for (const [number, chip] of chips) {
    if (!open.has(number)) {
      chip.remove();
      chips.delete(number);
    }
  }
  for (const tab of tabs) {
    const chip = chips.get(tab.tab) ?? addChip(tab.tab);
    // A tab whose request has come and waits is told from one on its way by the server.
    const waits = tab.state === 'connecting' && feed.ofClient(tab)?.state === 'waiting';
    set(chip.dataset, 'state', waits ? 'waiting' : tab.state);
    const { state } = chip.dataset;
    const text = 'tab ' + tab.tab + ({ open: '', waiting: ' waits', closed: ' failed' }[state] ?? ' ' + state);
    if (chip.firstChild.textContent !== text) {
      chip.firstChild.textContent = text;
    }
    chip.title = tab.failed ?? '';
  }
}

function addChip(number) {
  const chip = element('li', 'chip');
  const close = element('button', 'close', '×');
  close.setAttribute('aria-label', 'close tab ' + number);
  close.title = 'closes tab ' + number + ': its thread notices at the second write';
  close.addEventListener('click', () => carryOut('/lab/tabs/close?tab=' + number, () => 'Tab ' + number + ' is closed; its thread notices at a write that fails.'));
  chip.append(element('span'), close);
  chip.dataset.tab = number;
  chips.set(number, chip);
  const after = [...chips.keys()].filter(other => other > number).sort((a, b) => a - b)[0];
  at('tabs').insertBefore(chip, chips.get(after) ?? null);
  return chip;
}

function showPages(pages) {
  const list = at('pages');
  const shown = pages.slice(-PAGES_SHOWN).reverse();
  while (list.children.length > shown.length) {
    list.lastChild.remove();
  }
  shown.forEach((page, row) => {
    const item = list.children[row] ?? list.appendChild(element('li'));
    const words = pageWords(page);
    if (item.textContent !== words) {
      item.textContent = words;
    }
    set(item.dataset, 'page', String(page.page));
    set(item.dataset, 'state', page.answered !== null ? 'answered' : page.failed ? 'failed' : feed.ofClient(page)?.state ?? 'asked');
  });
}

function pageWords(page) {
  const name = 'page-' + page.page;
  const story = feed.ofClient(page);
  const waited = story?.waited > SHORT_US ? ' after ' + seconds(story.waited) + ' in todo' : ' at once';
  if (page.answered !== null) {
    return name + ': answered with ' + page.answered + (story ? ' by thread ' + story.lane + waited : '');
  }
  if (page.failed) {
    return name + ': ' + page.failed;
  }
  if (story?.state === 'waiting') {
    const ahead = feed.todo().findIndex(other => other === story);
    const place = ahead === 0 ? 'first in line' : ahead + ' ahead of it';
    return name + ': waits in todo for ' + ((feed.now() - story.queuedAt) / 1e6).toFixed(1) + ' s, ' + place;
  }
  return name + (story?.thread ? ': on thread ' + story.thread : ': asked');
}

// A zombie never learns that its stream was ended: the client stays, and holds nothing.
function zombieWords(zombies) {
  const holds = zombies.filter(zombie => feed.ofClient(zombie)?.thread).length;
  if (zombies.length === 0) {
    return '';
  }
  if (holds === 0) {
    const waits = zombies.filter(zombie => feed.ofClient(zombie)?.state === 'waiting').length;
    return zombies.length + ' left, ' + (waits ? waits + ' in todo' : 'none holds a thread');
  }
  return zombies.length + ' there, ' + (holds === zombies.length ? (holds === 1 ? 'it holds a thread' : 'each holds a thread') : holds + (holds === 1 ? ' holds' : ' hold') + ' a thread');
}

function showLab() {
  const { tabs, zombies, pages } = feed.state.lab;
  showTabs(tabs);
  showPages(pages);
  put('zombie-count', zombieWords(zombies));
}

// ---- The log.

let loggedLine = 0;
function showLog() {
  if (feed.lines === loggedLine) {
    return;
  }
  loggedLine = feed.lines;
  const list = at('log');
  const shown = feed.log.slice(-LINES_SHOWN).reverse();
  while (list.children.length < shown.length) {
    const item = element('li');
    item.append(element('span', 'number when'), element('span'));
    list.append(item);
  }
  shown.forEach((line, row) => {
    const item = list.children[row];
    const when = (line.at / 1e6).toFixed(1);
    if (item.firstChild.textContent !== when) {
      item.firstChild.textContent = when;
    }
    if (item.lastChild.textContent !== line.text) {
      item.lastChild.textContent = line.text;
    }
    set(item.dataset, 'kind', line.kind);
  });
}

feed.on(change => {
  if (change === 'state') {
    showNumbers();
    showHeadline();
    showLab();
    showLog();
  }
});

// ---- The buttons.

async function carryOut(path, words) {
  const { ok, status, said } = await order(path);
  const refusal = status === 403 ? refusedWords(said) : said;
  answer(ok, ok ? words(said) : String(refusal.error ?? refusal));
}

function answer(ok, words) {
  at('answer').dataset.ok = ok;
  at('answer').textContent = words;
}

function refuse(words) {
  answer(false, words);
}

function click(id, path, words) {
  at(id).addEventListener('click', () => carryOut(path, words));
}

click('open-tab', '/lab/tabs/open', said => 'Tab ' + said.tab + ' asks for its stream.');
click('zombies', '/lab/zombies?count=3', said => said.zombies.map(it => 'zombie-' + it.zombie).join(', ') + ' ask for streams that they will not read.');
click('ask-page', '/lab/page', said => 'page-' + said.page + ' is asked for.');
click('reap', '/reap', said => (said.reaped === 1 ? '1 stream was' : said.reaped + ' streams were') + ' told to end.');
click('reset', '/lab/reset', said => 'Closed; ' + said.max + ' threads, maximum age ' + (said.max_stream_age_s === null ? 'off' : said.max_stream_age_s + ' s') + '.');
click('age-off', '/max-stream-age?secs=off', () => ageWords(null));
onSubmit(at('age'), 'secs', wrongAge, refuse, secs => carryOut('/max-stream-age?secs=' + secs, said => ageWords(said.max_stream_age_s)));
onSubmit(at('threads'), 'count', wrongThreads, refuse, count => carryOut('/lab/threads?count=' + count, said => said.max + ' threads, least and most.'));
