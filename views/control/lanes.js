// Lanes: what each pool thread did and does, scrolling; and todo, the queue that it is.
//
//   new Lanes(list, feed)     fills an <ol> with one row a thread: [data-lane="3"] with
//                             data-state of the lane, and of its request data-tab,
//                             data-request and data-path
//   new Todo(list, feed)      fills an <ol>: [data-request] with data-tab, the oldest first
//
// Both draw what the feed has and keep no state of a request. A row's strip takes the
// focus; its arrow keys walk through what is drawn, as a pointer does.
const MOST_LANES = 64;
const MOST_WAITING = 24;
const ENDS = { gone: '×', reaped: 'R', panicked: '!', unseen: '?' };
// The height that a name in a band needs.
const NAME_HEIGHT = 13;
const CALM = matchMedia('(prefers-reduced-motion: reduce)');

const STATES = {
  absent: 'not started', left: 'has left', idle: 'idle', running: 'answers', streaming: 'streams',
};

// The words of one span, as the tooltip says them.
function spanWords(span, now) {
  const story = span.story;
  const lasted = (span.to ?? now) - span.from;
  const words = [story.name + (story.isStream ? ', a stream' : '')];
  if (story.target !== null) {
    words.push(story.line);
  }
  words.push((span.to === null ? 'for ' : 'took ') + seconds(lasted) + (span.to === null ? ' so far' : ', until ' + seconds(now - span.to) + ' ago'));
  if (story.waited > SHORT_US) {
    words.push('waited ' + seconds(story.waited) + ' in todo');
  }
  if (story.writes) {
    words.push(story.writes + (story.writes === 1 ? ' write' : ' writes'));
  }
  if (span.blocked.length) {
    const sum = span.blocked.reduce((all, [from, to]) => all + to - from, 0);
    words.push('blocked for ' + seconds(sum) + ': its client did not read');
  }
  if (span.end === 'gone') {
    words.push('write ' + story.gone.write + ' failed (' + story.gone.error + '): its client was gone');
  } else if (span.end === 'reaped') {
    words.push('told to end: ' + story.reaped.why);
  } else if (span.end === 'panicked') {
    words.push('its action panicked');
  } else if (span.end === 'unseen') {
    words.push('its end was not seen');
  }
  return words;
}

// Where a band is in a row of this height. That of a stream is narrower, but not too narrow
// for its name.
function bandBox(height, isStream) {
  const top = isStream ? Math.min(Math.max((height - NAME_HEIGHT - 1) / 2, 2), 6) : 3;
  return { top, tall: height - 2 * top };
}

class Lanes {
  constructor(list, feed) {
    this.list = list;
    this.feed = feed;
    this.rows = new Map();
    this.drawn = 0;
    this.more = element('li', 'more');
    this.tip = element('div', 'tip');
    this.tip.id = 'tip';
    this.tip.role = 'tooltip';
    this.tip.hidden = true;
    document.body.append(this.tip);
    this.watchColours();
    this.watchSize();
    feed.on(() => this.arrange());
    addEventListener('keydown', e => e.key === 'Escape' && this.hideTip());
    // What it says of what still lasts grows old.
    setInterval(() => this.again?.(), 500);
    const frame = time => {
      if (time - this.drawn >= (CALM.matches ? 1000 : 60)) {
        this.drawn = time;
        this.draw();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  watchColours() {
    const read = () => {
      const style = getComputedStyle(document.documentElement);
      const names = ['ink', 'paper', 'quiet', 'line', 'stream', 'page', 'blocked', 'ended'];
      this.colours = Object.fromEntries(names.map(name => [name, style.getPropertyValue('--' + name).trim()]));
      this.font = '600 11px ' + style.getPropertyValue('--font');
    };
    read();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', read);
  }

  watchSize() {
    this.observer = new ResizeObserver(entries => {
      for (const { target, contentRect } of entries) {
        const ratio = devicePixelRatio || 1;
        target.width = Math.round(contentRect.width * ratio);
        target.height = Math.round(contentRect.height * ratio);
      }
      this.draw();
    });
  }

  // Rows for the threads that there are, and for those that there may be.
  arrange() {
    const max = this.feed.state?.max ?? 0;
    const numbers = new Set(this.feed.lanes.keys());
    for (let number = 1; number <= Math.min(max, MOST_LANES); number += 1) {
      numbers.add(number);
    }
    const wanted = [...numbers].sort((a, b) => a - b).slice(0, MOST_LANES);
    for (const [number, row] of this.rows) {
      if (!wanted.includes(number)) {
        this.observer.unobserve(row.canvas);
        row.item.remove();
        this.rows.delete(number);
        this.hideTip();
      }
    }
    wanted.forEach((number, at) => {
      const row = this.rows.get(number) ?? this.addRow(number);
      if (this.list.children[at] !== row.item) {
        this.list.insertBefore(row.item, this.list.children[at] ?? null);
      }
      this.show(row, number);
    });
    const hidden = Math.max(max, numbers.size) - wanted.length;
    this.more.textContent = hidden > 0 ? 'and ' + hidden + (hidden === 1 ? ' thread more' : ' threads more') : '';
    if (hidden > 0) {
      this.list.append(this.more);
    } else {
      this.more.remove();
    }
  }

  addRow(number) {
    const item = element('li', 'lane');
    const name = element('span', 'lane-name', String(number).padStart(3, '0'));
    name.title = 'pool thread ' + number;
    const canvas = element('canvas', 'lane-strip');
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'img');
    const holder = element('span', 'lane-holder');
    item.dataset.lane = number;
    item.append(name, canvas, holder);
    const row = { number, item, canvas, holder, span: null };
    this.rows.set(number, row);
    this.observer.observe(canvas);
    canvas.addEventListener('pointermove', e => this.point(row, e.offsetX));
    canvas.addEventListener('pointerleave', () => this.hideTip());
    canvas.addEventListener('focus', () => this.walk(row, 0));
    canvas.addEventListener('blur', () => this.hideTip());
    canvas.addEventListener('keydown', e => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (step) {
        e.preventDefault();
        this.walk(row, step);
      }
    });
    return row;
  }

  show(row, number) {
    const lane = this.feed.lanes.get(number);
    const state = lane?.state ?? 'absent';
    const story = lane?.current?.story;
    const data = row.item.dataset;
    set(data, 'state', state);
    set(data, 'tab', story?.tab ?? '');
    set(data, 'request', story ? String(story.request) : '');
    if (data.path !== (story?.target ?? '')) {
      data.path = story?.target ?? '';
      row.holder.title = story?.target ? story.line : '';
    }
    const word = STATES[state === 'absent' && lane?.to ? 'left' : state];
    const holder = story ? story.name : word;
    if (row.holder.textContent !== holder) {
      row.holder.textContent = holder;
    }
    const words = 'thread ' + number + (story ? ' ' + word + ', ' + story.name : ': ' + word);
    if (row.words !== words) {
      row.words = words;
      row.canvas.setAttribute('aria-label', words);
    }
  }

  // ---- The tooltip.

  spans(row) {
    const lane = this.feed.lanes.get(row.number);
    return lane ? [...lane.spans, ...(lane.current ? [lane.current] : [])] : [];
  }

  point(row, x) {
    this.again = () => this.point(row, x);
    const now = this.feed.now();
    const at = now - (1 - x / row.canvas.clientWidth) * WINDOW_US;
    const slack = (3 / row.canvas.clientWidth) * WINDOW_US;
    this.tip.hidden = true;
    const found = this.spans(row).findLast(span => span.from - slack <= at && at <= (span.to ?? now) + slack);
    if (found) {
      return this.showTip(row, x, spanWords(found, now));
    }
    const short = this.feed.lanes.get(row.number)?.short.get(Math.floor(at / SHORT_US));
    if (short) {
      const words = short.count === 1 ? 'one short request' : short.count + ' short requests';
      return this.showTip(row, x, [short.count ? words : 'a look at a connection without a request', 'busy ' + seconds(short.busy) + ' of a tenth of a second']);
    }
  }

  walk(row, step) {
    const spans = this.spans(row);
    const at = step ? spans.indexOf(row.span) + step : spans.length - 1;
    row.span = spans[Math.min(Math.max(at, 0), spans.length - 1)];
    this.again = () => this.tell(row);
    this.tell(row);
  }

  tell(row) {
    const { span } = row;
    if (!span) {
      return this.showTip(row, row.canvas.clientWidth, [row.words]);
    }
    const now = this.feed.now();
    const x = (1 - (now - (span.to ?? now)) / WINDOW_US) * row.canvas.clientWidth;
    this.showTip(row, x, spanWords(span, now));
  }

  showTip(row, x, words) {
    const tip = this.tip;
    tip.replaceChildren(...words.map((line, at) => element(at ? 'div' : 'strong', '', line)));
    tip.hidden = false;
    // Near the edge it would be measured as narrow as there is room.
    tip.style.setProperty('left', '0');
    row.canvas.setAttribute('aria-describedby', tip.id);
    const box = row.canvas.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + x - tip.offsetWidth / 2, 8), innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.setProperty('left', left + scrollX + 'px');
    tip.style.setProperty('top', (below ? box.bottom + 6 : box.top - 6 - tip.offsetHeight) + scrollY + 'px');
  }

  hideTip() {
    this.again = null;
    this.tip.hidden = true;
  }

  // ---- The drawing.

  draw() {
    const now = this.feed.now();
    for (const row of this.rows.values()) {
      this.strip(row, now);
    }
  }

  strip(row, now) {
    const { canvas } = row;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const lane = this.feed.lanes.get(row.number);
    const ink = canvas.getContext('2d');
    const ratio = canvas.width / Math.max(width, 1);
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.clearRect(0, 0, width, height);
    if (!now || !lane) {
      return;
    }
    const c = this.colours;
    const x = us => (1 - (now - us) / WINDOW_US) * width;
    const middle = height / 2;
    if (lane.alive || lane.to !== null) {
      ink.strokeStyle = c.line;
      ink.lineWidth = 1;
      ink.beginPath();
      ink.moveTo(Math.max(x(lane.from ?? this.feed.since ?? 0), 0), middle);
      ink.lineTo(lane.alive ? width : Math.max(x(lane.to), 0), middle);
      ink.stroke();
    }
    ink.fillStyle = c.page;
    for (const [tenth, short] of lane.short) {
      const share = Math.max(short.busy / SHORT_US, 0.3);
      const tall = Math.min(share, 1) * (height - 8);
      ink.fillRect(x(tenth * SHORT_US), height - 4 - tall, Math.max(width * SHORT_US / WINDOW_US - 0.5, 2), tall);
    }
    for (const span of lane.spans) {
      this.band(ink, span, x, height, now);
    }
    if (lane.current) {
      this.band(ink, lane.current, x, height, now);
    }
    const unknown = Math.max(this.feed.since ?? 0, lane.keptSince);
    const gaps = unknown > now - WINDOW_US ? [{ from: 0, to: unknown }, ...this.feed.gaps] : this.feed.gaps;
    for (const gap of gaps) {
      this.hatch(ink, Math.max(x(gap.from), 0), Math.max(x(gap.to), 0), 2, height - 2, c.quiet, 8);
    }
  }

  band(ink, span, x, height, now) {
    const c = this.colours;
    const { story } = span;
    const from = Math.max(x(span.from), -2);
    const to = x(span.to ?? now);
    if (to < 0) {
      return;
    }
    const wide = Math.max(to - from, 2);
    const { top, tall } = bandBox(height, story.isStream);
    ink.fillStyle = story.isStream ? c.stream : c.page;
    ink.beginPath();
    ink.roundRect(from, top, wide, tall, story.isStream ? 3 : 1);
    ink.fill();
    for (const [began, ended] of span.blocked) {
      const left = Math.max(x(began), from);
      ink.fillStyle = c.paper;
      ink.fillRect(left, top, x(ended) - left, tall);
      this.hatch(ink, left, x(ended), top, height - top, c.blocked, 5);
    }
    let clear = from + 4;
    if (wide > 40 && tall >= NAME_HEIGHT) {
      ink.font = this.font;
      const room = ink.measureText(story.name).width;
      const left = Math.max(from, 0) + 5;
      const blocked = span.blocked.find(([, ended]) => x(ended) > left);
      if (left + room < (blocked ? x(blocked[0]) : span.end ? to - 14 : to) - 5) {
        ink.fillStyle = c.paper;
        ink.textBaseline = 'middle';
        ink.fillText(story.name, left, height / 2 + 0.5);
        clear = left + room + 4;
      }
    }
    if (story.isStream) {
      // Each write is a notch.
      ink.fillStyle = c.paper;
      for (const at of span.writes) {
        const left = x(at);
        if (left > clear && left < to - 1) {
          ink.fillRect(left - 0.75, height - top - 5, 1.5, 5);
        }
      }
    }
    if (span.end) {
      const sign = ENDS[span.end];
      ink.fillStyle = c.ended;
      ink.beginPath();
      ink.roundRect(to - 14, 3, 14, height - 6, 3);
      ink.fill();
      ink.font = this.font;
      ink.fillStyle = c.paper;
      ink.textBaseline = 'middle';
      ink.fillText(sign, to - 7 - ink.measureText(sign).width / 2, height / 2 + 0.5);
    }
  }

  hatch(ink, left, right, top, bottom, colour, every) {
    if (right <= left) {
      return;
    }
    ink.save();
    ink.beginPath();
    ink.rect(left, top, right - left, bottom - top);
    ink.clip();
    ink.strokeStyle = colour;
    ink.lineWidth = 1.5;
    ink.beginPath();
    for (let at = left - (bottom - top); at < right; at += every) {
      ink.moveTo(at, bottom);
      ink.lineTo(at + bottom - top, top);
    }
    ink.stroke();
    ink.restore();
  }
}

class Todo {
  constructor(list, feed) {
    this.list = list;
    this.feed = feed;
    this.items = new Map();
    this.more = element('li', 'more');
    feed.on(() => this.arrange());
    setInterval(() => this.tick(), 200);
  }

  arrange() {
    const waiting = this.feed.todo();
    const shown = waiting.slice(0, MOST_WAITING);
    const wanted = new Set(shown.map(story => story.request));
    for (const [request, item] of this.items) {
      if (!wanted.has(request)) {
        item.item.remove();
        this.items.delete(request);
      }
    }
    shown.forEach((story, at) => {
      const known = this.items.get(story.request) ?? this.add(story);
      // A request that was queued for the second time has a new story.
      known.story = story;
      const { item, name } = known;
      // One that was looked at and put back has lost its place.
      if (this.list.children[at] !== item) {
        this.list.insertBefore(item, this.list.children[at] ?? null);
      }
      set(item.dataset, 'tab', story.tab ?? '');
      set(item.dataset, 'path', story.target ?? '');
      if (name.textContent !== story.name) {
        name.textContent = story.name;
        item.title = story.target === null ? 'nothing of its request has come yet' : story.line;
      }
    });
    const hidden = waiting.length - shown.length;
    const words = hidden > 0 ? 'and ' + hidden + ' more' : shown.length ? '' : 'nobody waits';
    if (this.more.textContent !== words) {
      this.more.textContent = words;
    }
    if (words && this.list.lastChild !== this.more) {
      this.list.append(this.more);
    } else if (!words) {
      this.more.remove();
    }
    this.tick();
  }

  add(story) {
    const item = element('li', 'waiting');
    const name = element('span', 'waiting-name');
    const time = element('span', 'number');
    item.dataset.request = story.request;
    item.append(name, time);
    const known = { item, name, time, story };
    this.items.set(story.request, known);
    return known;
  }

  tick() {
    const now = this.feed.now();
    for (const { time, story } of this.items.values()) {
      const words = Math.max((now - story.queuedAt) / 1e6, 0).toFixed(1) + ' s';
      if (story.queuedAt !== null && time.textContent !== words) {
        time.textContent = words;
      }
    }
  }
}

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) {
    made.className = kind;
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

function set(data, name, value) {
  if (data[name] !== value) {
    data[name] = value;
  }
}
