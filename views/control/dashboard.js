// The dashboard: shows the data of the feed. The buttons, and the clients that they open, are in lab.js.
const LINES_SHOWN = 60;
const SPARK_US = 60e6;
const feed = new Feed(TOKEN);
const shown = new Shown(feed);

showConnection(feed);
const picture = new Picture(at('picture'), shown);
const headline = new Headline(at('headline'), at('spoken'));
const meter = new Meter(at('meter'));

function put(id, value) {
  write(at(id), value === null || value === undefined ? '–' : String(value));
}

function inSeconds(value) {
  return value === null ? null : value.toFixed(1) + ' s';
}

// ---- Numbers.

const UNRECORDED = ['busy_threads', 'running', 'max_threads', 'pool_capacity', 'backlog', 'requests_count', 'streams_open', 'streams_disconnected',
  'streams_reaped', 'oldest_age', 'database', 'connections', 'reactor', 'listen_queue', 'max_stream_age'];

function showNumbers() {
  if (shown.frozen) {
    UNRECORDED.forEach(id => put(id, 'not recorded'));
    return;
  }
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

// The parts that change as time passes.
function tick() {
  if (!feed.state) {
    return;
  }
  const pool = poolOf(shown.record, shown.now(), shown.max, story => shown.goneAt(story));
  headline.show(headlineOf(pool));
  meter.show(pool);
  put('held', pool.held);
  put('waiting', pool.waiting.length);
  document.title = pool.held + '/' + pool.max + (pool.waiting.length ? ' +' + pool.waiting.length : '') + ' · dashboard';
  return pool;
}
setInterval(tick, 100);

// ---- The last minute of four numbers, as received by this page.

const sparks = [...document.querySelectorAll('.spark')].map(canvas => ({ canvas, id: canvas.dataset.of, points: [] }));

function showSparks(pool) {
  const { stats, now_us: now } = feed.state;
  const values = { held: pool.held, waiting: pool.waiting.length, pool_capacity: stats.pool_capacity, oldest_age: stats.streams.oldest_age_s ?? 0 };
  for (const { canvas, id, points } of sparks) {
    points.push([now, values[id]]);
    while (points[0][0] < now - SPARK_US) {
      points.shift();
    }
    const width = canvas.width = canvas.clientWidth * devicePixelRatio;
    const height = canvas.height = canvas.clientHeight * devicePixelRatio;
    const most = Math.max(...points.map(([, value]) => value), 1);
    const ink = canvas.getContext('2d');
    ink.strokeStyle = picture.drawing.colors[id === 'waiting' ? 'waiting' : 'held'];
    ink.lineWidth = 2 * devicePixelRatio;
    ink.beginPath();
    points.forEach(([us, value], index) => {
      const x = (1 - (now - us) / SPARK_US) * width;
      const y = (1 - value / most) * (height - ink.lineWidth * 2) + ink.lineWidth;
      index ? ink.lineTo(x, y) : ink.moveTo(x, y);
    });
    ink.stroke();
  }
}

// ---- Warnings, which the control server computes. They describe the present.

function showWarnings() {
  const list = at('warnings');
  const warnings = shown.frozen ? [] : feed.state.warnings ?? [];
  while (list.children.length > warnings.length) {
    list.lastChild.remove();
  }
  warnings.forEach((warning, row) => {
    const item = list.children[row] ?? list.appendChild(warningItem());
    write(item.children[0], warning.text);
    write(item.children[1], warning.remedy);
    item.children[2].hidden = !warning.link;
    if (warning.link) {
      item.children[2].href = 'http://localhost:' + document.body.dataset.appPort + warning.link;
    }
  });
}

function warningItem() {
  const item = element('li');
  const link = element('a', '', 'The fixes');
  link.target = '_blank';
  link.rel = 'noopener';
  item.append(element('b'), element('span', 'remedy'), link);
  return item;
}

// ---- The lanes as text.

at('as-table').addEventListener('click', () => {
  at('table').hidden = !at('table').hidden;
  at('as-table').setAttribute('aria-expanded', !at('table').hidden);
  showTable();
});

function showTable() {
  if (at('table').hidden) {
    return;
  }
  const now = shown.now();
  const lanes = [...shown.record.lanes.values()].filter(lane => lane.alive || lane.current).sort((a, b) => a.number - b.number);
  const rows = lanes.map(({ number, current, state }) => current
    ? ['thread ' + number, shown.goneAt(current.story) === null ? 'held' : 'held, client gone', current.story.name, tenths(now - current.from), current.story.writes]
    : ['thread ' + number, state, '', '', '']);
  const queue = shown.record.todo().map(story => ['queue', story.isSpare ? 'no request yet' : 'waiting', story.name, tenths(now - story.queuedAt), '']);
  const all = [...rows, ...queue];
  const body = at('rows');
  while (body.rows.length > all.length) {
    body.lastChild.remove();
  }
  all.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells.forEach((text, cell) => write(row.cells[cell] ?? row.insertCell(), String(text)));
  });
}

at('explain').addEventListener('click', () => {
  const isOpen = at('explain').getAttribute('aria-expanded') === 'true';
  at('explain').setAttribute('aria-expanded', !isOpen);
  document.querySelectorAll('.says').forEach(says => {
    says.hidden = isOpen;
  });
});

// ---- The log. It pauses while it is read.

let loggedLine = 0;
function showLog() {
  const list = at('log');
  const isRead = list.scrollTop > 0 || document.activeElement === list;
  at('log-pauses').hidden = !isRead;
  if (feed.lines === loggedLine || isRead) {
    return;
  }
  loggedLine = feed.lines;
  const lines = feed.log.slice(-LINES_SHOWN).reverse();
  while (list.children.length < lines.length) {
    const item = element('li');
    item.append(element('span', 'number when'), element('span'));
    list.append(item);
  }
  lines.forEach((line, row) => {
    const item = list.children[row];
    write(item.firstChild, (line.at / 1e6).toFixed(1));
    write(item.lastChild, line.text);
    set(item.dataset, 'kind', line.kind);
  });
}

feed.on(change => {
  if (change === 'state') {
    showNumbers();
    tick();
    showSparks(poolOf(feed, feed.now(), feed.state.max, story => feed.goneAt.get(story.request) ?? null));
    showWarnings();
    showTable();
    showLab();
    showLog();
  }
});
