// The picture: a row for each pool thread, the queue below them on the same axis, and a tooltip.
//
//   new Picture(place, shown)   place has .lanes and .waiting-list (both <ol>), .queue, .axis and
//                               a <canvas>. A row is [data-lane="3"] with data-state of the lane,
//                               and data-tab, data-request and data-path of its request; an item
//                               of the queue has data-request, data-tab and data-path
//
// It draws what `shown` has and keeps no state about requests. The rows are one tab stop: the vertical arrow keys
// choose a row, the horizontal ones step through its bands, as a pointer does.
const MOST_LANES = 64;
const MOST_LISTED = 24;
const MANY_LANES = 12;
// The pause between two drawings, without the time until the next frame.
const DRAW_EVERY_MS = 50;
const DRAW_CALMLY_EVERY_MS = 1000;

const STATES = {
  absent: 'not started', left: 'ended', idle: WORDS.idle, running: WORDS.held + ' by', streaming: WORDS.held + ' by the stream of',
};

// The lines of the tooltip of one span.
function spanWords(span, now, goneAt) {
  const story = span.story;
  const lasted = (span.to ?? now) - span.from;
  const words = [story.name + (story.isStream ? ', a stream' : '')];
  if (story.target !== null) {
    words.push(story.line);
  }
  words.push('held the thread for ' + seconds(lasted) + (span.to === null ? ' so far' : ', until ' + seconds(now - span.to) + ' ago'));
  if (story.waited > SHORT_US) {
    words.push('waited ' + seconds(story.waited) + ' in the queue');
  }
  if (story.writes) {
    words.push(many(story.writes, 'write'));
  }
  if (span.blocked.length) {
    const sum = span.blocked.reduce((all, [from, to]) => all + to - from, 0);
    words.push('writes blocked for ' + seconds(sum) + ' in total: its client did not read');
  }
  if (goneAt !== null) {
    words.push(WORDS.gone + ' for ' + seconds((span.to ?? now) - goneAt));
  }
  if (span.end === 'gone') {
    const { write, error } = story.gone;
    words.push(error === SEEN_CLOSED ? 'saw that its client closed (' + error + ')' : 'write ' + write + ' failed (' + error + ')');
  } else if (span.end === 'reaped') {
    words.push(WORDS.reaped + ': ' + story.reaped.why);
  } else if (span.end === 'panicked') {
    words.push('its action panicked');
  } else if (span.end === 'unseen') {
    words.push('its end was ' + WORDS.unrecorded);
  }
  return words;
}

class Picture {
  constructor(place, shown) {
    this.place = place;
    this.list = place.querySelector('.lanes');
    this.waiting = new Waiting(place.querySelector('.waiting-list'), place.querySelector('.queue'), shown);
    this.shown = shown;
    this.actions = typeof ActionRows === 'undefined' ? null : new ActionRows(this.list, shown);
    this.rows = new Map();
    this.current = 1;
    this.canvas = place.querySelector('canvas');
    this.drawing = new Drawing(this.canvas, shown);
    this.more = element('li', 'more');
    this.tip = element('div', 'tip');
    this.tip.id = 'tip';
    this.tip.role = 'tooltip';
    this.tip.hidden = true;
    document.body.append(this.tip);
    shown.feed.on(() => this.arrange());
    addEventListener('keydown', e => e.key === 'Escape' && this.hideTip());
    new ResizeObserver(() => this.draw()).observe(place);
    onRecolored(() => this.draw());
    // Updates the tooltip, since its times grow.
    setInterval(() => this.again?.(), 500);
    // No frame is requested between two drawings, so the browser composes none.
    const drawNext = () => requestAnimationFrame(() => {
      this.draw();
      setTimeout(drawNext, CALM.matches ? DRAW_CALMLY_EVERY_MS : DRAW_EVERY_MS);
    });
    drawNext();
  }

  // Shows rows for the threads that exist, and for those that may be started.
  arrange() {
    const { max, record } = this.shown;
    const numbers = new Set(record.lanes.keys());
    for (let number = 1; number <= Math.min(max, MOST_LANES); number += 1) {
      numbers.add(number);
    }
    const wanted = [...numbers].sort((a, b) => a - b).slice(0, MOST_LANES);
    for (const [number, row] of this.rows) {
      if (!wanted.includes(number)) {
        row.item.remove();
        this.rows.delete(number);
        this.hideTip();
      }
    }
    wanted.forEach((number, index) => {
      const row = this.rows.get(number) ?? this.addRow(number);
      if (this.list.children[index] !== row.item) {
        this.list.insertBefore(row.item, this.list.children[index] ?? null);
      }
      this.show(row, number);
    });
    if (!this.rows.has(this.current)) {
      this.choose(wanted[0]);
    }
    set(this.list.dataset, 'many', String(wanted.length > MANY_LANES));
    const hidden = Math.max(max, numbers.size) - wanted.length;
    write(this.more, hidden > 0 ? 'and ' + many(hidden, 'more thread') : '');
    if (hidden > 0) {
      this.list.append(this.more);
    } else {
      this.more.remove();
    }
    this.actions?.arrange();
    this.waiting.arrange();
  }

  addRow(number) {
    const item = element('li', 'lane');
    const strip = element('span', 'lane-strip');
    strip.tabIndex = number === this.current ? 0 : -1;
    strip.setAttribute('role', 'img');
    item.dataset.lane = number;
    item.append(element('span', 'lane-name', 'thread ' + number), strip);
    const row = { number, item, strip, span: null };
    this.rows.set(number, row);
    strip.addEventListener('pointermove', e => this.point(row, e.offsetX));
    strip.addEventListener('pointerleave', () => this.hideTip());
    strip.addEventListener('focus', () => this.walk(row, 0));
    strip.addEventListener('blur', () => this.hideTip());
    strip.addEventListener('keydown', e => this.key(e, row));
    return row;
  }

  key(e, row) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    const lane = { ArrowUp: -1, ArrowDown: 1 }[e.key];
    if (step) {
      this.walk(row, step);
    } else if (lane) {
      const numbers = [...this.rows.keys()].sort((a, b) => a - b);
      const number = numbers[numbers.indexOf(row.number) + lane];
      if (number !== undefined) {
        this.choose(number);
        this.rows.get(number).strip.focus();
      }
    } else if (e.key === 'Escape') {
      e.target.blur();
    } else {
      return;
    }
    e.preventDefault();
    e.stopPropagation();
  }

  // Sets the row that the Tab key focuses.
  choose(number) {
    this.current = number;
    this.rows.forEach(row => {
      row.strip.tabIndex = row.number === number ? 0 : -1;
    });
  }

  show(row, number) {
    const lane = this.shown.record.lanes.get(number);
    const state = lane?.state ?? 'absent';
    const story = lane?.current?.story;
    const data = row.item.dataset;
    set(data, 'state', state);
    set(data, 'tab', story?.tab ?? '');
    set(data, 'request', story ? String(story.request) : '');
    set(data, 'path', story?.target ?? '');
    const word = STATES[state === 'absent' && lane?.to ? 'left' : state];
    const gone = story && this.shown.goneAt(story) !== null ? ', ' + WORDS.gone : '';
    const words = 'thread ' + number + (story ? ' ' + word + ' ' + story.name + gone : ' ' + word);
    if (row.words !== words) {
      row.words = words;
      row.strip.setAttribute('aria-label', words);
    }
  }

  // ---- The tooltip.

  spans(row) {
    const lane = this.shown.record.lanes.get(row.number);
    return lane ? [...lane.spans, ...(lane.current ? [lane.current] : [])] : [];
  }

  words(span, now) {
    return spanWords(span, now, this.shown.goneAt(span.story));
  }

  point(row, x) {
    this.again = () => this.point(row, x);
    const now = this.shown.now();
    const window = this.shown.window(now);
    const moment = now - (1 - x / row.strip.clientWidth) * window;
    const slack = (3 / row.strip.clientWidth) * window;
    this.tip.hidden = true;
    const found = this.spans(row).findLast(span => span.from - slack <= moment && moment <= (span.to ?? now) + slack);
    if (found) {
      return this.showTip(row, x, this.words(found, now));
    }
    const short = this.shown.record.lanes.get(row.number)?.short.get(Math.floor(moment / SHORT_US));
    if (short) {
      const words = short.count ? many(short.count, 'short request') : 'checked an idle connection';
      return this.showTip(row, x, [words, 'held for ' + seconds(short.busy) + ' of a tenth of a second']);
    }
  }

  walk(row, step) {
    const spans = this.spans(row);
    const index = step ? spans.indexOf(row.span) + step : spans.length - 1;
    row.span = spans[Math.min(Math.max(index, 0), spans.length - 1)];
    this.again = () => this.tell(row);
    this.tell(row);
  }

  tell(row) {
    const { span } = row;
    if (!span) {
      return this.showTip(row, row.strip.clientWidth, [row.words]);
    }
    const now = this.shown.now();
    const x = (1 - (now - (span.to ?? now)) / this.shown.window(now)) * row.strip.clientWidth;
    this.showTip(row, x, this.words(span, now));
  }

  showTip(row, x, words) {
    const tip = this.tip;
    tip.replaceChildren(...words.map((line, index) => element(index ? 'div' : 'strong', '', line)));
    tip.hidden = false;
    // Near the right edge, the tooltip would be measured narrower than it can be.
    tip.style.setProperty('left', '0');
    row.strip.setAttribute('aria-describedby', tip.id);
    const box = row.strip.getBoundingClientRect();
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
    const base = this.canvas.getBoundingClientRect();
    const box = place => {
      const { top, height } = place.getBoundingClientRect();
      return { top: top - base.top, tall: height };
    };
    const rows = [...this.rows.values()].map(row => ({ number: row.number, ...box(row.item) }));
    const actions = this.actions && [...this.actions.rows].map(([worker, item]) => ({ worker, ...box(item) }));
    const queue = box(this.place.querySelector('.queue'));
    this.drawing.draw({
      rows, actions, queue, axis: box(this.place.querySelector('.axis')), head: rows.length ? rows[0].top : 0, bottom: queue.top + queue.tall,
    });
  }
}

// The queue as a list, for screen readers and tests; its bars are in the picture.
class Waiting {
  constructor(list, place, shown) {
    this.list = list;
    this.name = place.querySelector('.queue-more');
    this.shown = shown;
    this.items = new Map();
  }

  arrange() {
    const { record } = this.shown;
    const listed = record.todo().slice(0, MOST_LISTED);
    const wanted = new Set(listed.map(story => story.request));
    for (const [request, item] of this.items) {
      if (!wanted.has(request)) {
        item.remove();
        this.items.delete(request);
      }
    }
    listed.forEach((story, index) => {
      const item = this.items.get(story.request) ?? this.add(story);
      // A connection that a thread checked and put back has lost its position.
      if (this.list.children[index] !== item) {
        this.list.insertBefore(item, this.list.children[index] ?? null);
      }
      set(item.dataset, 'tab', story.tab ?? '');
      set(item.dataset, 'path', story.target ?? '');
      write(item, story.name);
    });
    const hidden = record.todo().filter(story => !story.isUncounted).length - MOST_BARS;
    if (this.name) {
      write(this.name, hidden > 0 ? '+' + hidden : '');
    }
  }

  add(story) {
    const item = element('li', 'waiting');
    item.dataset.request = story.request;
    this.items.set(story.request, item);
    return item;
  }
}
