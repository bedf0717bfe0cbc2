// The drawing of the lanes and the queue on one canvas. It keeps no record: `draw` gets the positions of the rows, and
// draws what `shown` has for them.
const MOST_BARS = 3;
const ENDS = { gone: ['×', 'error'], reaped: ['R', 'reaped'], panicked: ['!', 'error'], unseen: ['?', 'quiet'] };
const GONE_WORDS = [WORDS.gone, 'gone'];
const SPARE_WORDS = WORDS.spare + ' (no request yet)';
const PROBE_WORDS = 'measures page latency';
// Orders that follow each other this closely share a label.
const SHARED_US = 200e3;

class Drawing {
  constructor(canvas, shown) {
    this.canvas = canvas;
    this.shown = shown;
    this.slots = new Map();
    this.colors = new Colors(['paper', 'card', 'ink', 'quiet', 'line', 'held', 'on-held', 'waiting', 'waiting-stripe',
      'reaped', 'on-reaped', 'error', 'on-error', 'answered']);
  }

  // `places` has rows: [{ number, top, tall }], actions: [{ worker, top, tall }], the queue: { top, tall },
  // and bottom and axis.
  draw(places) {
    const { canvas, shown } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const ink = canvas.getContext('2d');
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.clearRect(0, 0, width, height);
    const now = shown.now();
    if (!now || !width) {
      return;
    }
    const style = getComputedStyle(canvas);
    this.em = parseFloat(style.fontSize);
    this.small = Math.max(14, this.em * 0.8);
    this.family = style.fontFamily;
    this.ink = ink;
    this.width = width;
    this.now = now;
    this.span = shown.window(now);
    ink.textBaseline = 'middle';
    for (const row of places.rows) {
      this.row(row, shown.record.lanes.get(row.number));
    }
    places.actions?.forEach(row => this.action(row));
    this.queue(places);
    this.marks(places);
    this.axis(places);
  }

  x(us) {
    return (1 - (this.now - us) / this.span) * this.width;
  }

  font(size, weight = 600) {
    this.ink.font = weight + ' ' + size + 'px ' + this.family;
  }

  wide(text) {
    return this.ink.measureText(text).width;
  }

  // ---- A thread.

  row({ top, tall }, lane) {
    if (!lane) {
      return;
    }
    const { ink, colors } = this;
    const { record } = this.shown;
    if (lane.alive || lane.to !== null) {
      const left = Math.max(this.x(lane.from ?? record.since ?? 0), 0);
      const right = lane.alive ? this.width : Math.max(this.x(lane.to), 0);
      ink.fillStyle = colors.line;
      ink.fillRect(left, top + tall / 2 - 1, Math.max(right - left, 0), 2);
    }
    const box = { top: top + tall * 0.08, tall: tall * 0.84 };
    ink.fillStyle = colors.answered;
    for (const [tenth, short] of lane.short) {
      const share = Math.min(Math.max(short.busy / SHORT_US, 0.4), 1);
      ink.fillRect(this.x(tenth * SHORT_US), box.top + box.tall * (1 - share), Math.max(this.width * SHORT_US / this.span - 1, 3), box.tall * share);
    }
    [...lane.spans, ...(lane.current ? [lane.current] : [])].forEach(span => this.band(span, box));
    // Hatches the time before the record began, and its gaps.
    const since = Math.max(record.since ?? 0, lane.keptSince);
    const gaps = since > (lane.from ?? 0) ? [{ from: lane.from ?? 0, to: since }, ...record.gaps] : record.gaps;
    for (const gap of gaps) {
      this.hatch(Math.max(this.x(gap.from), 0), this.x(gap.to), box, colors.quiet, 8);
    }
  }

  band(span, { top, tall }, gone = this.shown.goneAt(span.story), goneWords = GONE_WORDS) {
    const { ink, colors } = this;
    const { story } = span;
    const to = this.x(span.to ?? this.now);
    if (to < 0) {
      return;
    }
    const from = Math.max(this.x(span.from), -8);
    const solid = gone === null ? to : Math.min(Math.max(this.x(gone), from), to);
    const round = Math.min(5, tall / 3);
    if (solid > from) {
      ink.beginPath();
      ink.roundRect(from, top, Math.max(solid - from, 2), tall, solid < to ? [round, 0, 0, round] : round);
      // A forced color may be translucent, so the paper is drawn below it.
      for (const color of [colors.paper, colors.held]) {
        ink.fillStyle = color;
        ink.fill();
      }
    }
    for (const [began, ended] of span.blocked) {
      this.hatch(Math.max(this.x(began), from), Math.min(this.x(ended), to), { top, tall }, colors.ink, 7);
    }
    const badge = span.end ? Math.min(tall, 1.6 * this.em) : 0;
    let clear = from;
    if (tall >= this.em * 0.95) {
      this.font(this.em);
      const left = Math.max(from, 0) + this.em * 0.55;
      const right = left + this.wide(story.short);
      const blocked = span.blocked.find(([, ended]) => this.x(ended) > left);
      if (right + this.em * 0.4 < Math.min(solid, to - badge, blocked ? this.x(blocked[0]) : Infinity)) {
        ink.fillStyle = colors['on-held'];
        ink.fillText(story.short, left, top + tall / 2 + 1);
        clear = right + this.em * 0.3;
      }
    }
    const writes = span.writes.map(write => this.x(write)).filter(write => write > Math.max(clear, 0) && write < to - badge - 1);
    this.writes(writes.filter(write => write < solid), { top, tall }, colors.paper);
    if (solid < to) {
      this.hollow(solid, to, badge, writes.filter(write => write >= solid), { top, tall }, goneWords);
    }
    if (span.end) {
      const [sign, color] = ENDS[span.end];
      ink.fillStyle = colors[color];
      ink.beginPath();
      ink.roundRect(to - badge, top, badge, tall, round);
      ink.fill();
      this.font(Math.min(this.em * 1.1, tall));
      ink.fillStyle = colors['on-' + color] ?? colors.paper;
      ink.fillText(sign, to - badge / 2 - this.wide(sign) / 2, top + tall / 2 + 1);
    }
  }

  // Draws one line per write. Where lines would touch each other, some are left out.
  writes(places, { top, tall }, color) {
    this.ink.fillStyle = color;
    let last = -Infinity;
    for (const place of places) {
      const wide = place - last < 10 ? 1.5 : 3;
      if (place - last >= 3) {
        this.ink.fillRect(place - wide / 2, top, wide, tall);
        last = place;
      }
    }
  }

  // Draws the time during which the client has closed and the thread has not noticed. The label is placed between two
  // writes.
  hollow(from, to, badge, writes, box, goneWords) {
    const { ink, colors } = this;
    const { top, tall } = box;
    ink.fillStyle = colors.paper;
    ink.fillRect(from, top, to - from, tall);
    ink.strokeStyle = colors.held;
    ink.lineWidth = 3;
    ink.strokeRect(from + 1.5, top + 1.5, Math.max(to - from - 3, 1), tall - 3);
    this.writes(writes, { top: top + 3, tall: tall - 6 }, colors.held);
    this.font(this.small);
    const edges = [from, ...writes, to - badge];
    const gaps = edges.slice(1).map((edge, index) => [edges[index], edge]);
    for (const words of goneWords) {
      const gap = gaps.find(([left, right]) => right - left > this.wide(words) + 10);
      if (gap && tall > this.small) {
        ink.fillStyle = colors.ink;
        ink.fillText(words, gap[0] + 6, top + tall / 2 + 1);
        return;
      }
    }
  }

  hatch(left, right, { top, tall }, color, every) {
    if (right - left < 1) {
      return;
    }
    const { ink } = this;
    ink.save();
    ink.beginPath();
    ink.rect(left, top, right - left, tall);
    ink.clip();
    ink.strokeStyle = color;
    ink.lineWidth = 1.5;
    ink.beginPath();
    for (let at = left - tall; at < right; at += every) {
      ink.moveTo(at, top + tall);
      ink.lineTo(at + tall, top);
    }
    ink.stroke();
    ink.restore();
  }

  // ---- The queue.

  // One bar for each request that waits or has waited. A bar keeps its position.
  bars() {
    const { record } = this.shown;
    const open = record.todo().filter(story => !story.isUncounted).map(story => ({ story, from: story.queuedAt, to: null, thread: null }));
    const over = record.waits.filter(wait => !wait.story.isUncounted && this.x(wait.to) > 0);
    const all = [...over, ...open];
    const keys = new Map(all.map(bar => [bar, bar.story.request + '/' + bar.from]));
    const known = new Set(keys.values());
    for (const key of this.slots.keys()) {
      if (!known.has(key)) {
        this.slots.delete(key);
      }
    }
    const end = bar => bar.to ?? Infinity;
    const taken = all.filter(bar => this.slots.has(keys.get(bar)));
    for (const bar of all) {
      const key = keys.get(bar);
      if (!this.slots.has(key)) {
        const isFree = overlaps => slot => !taken.some(other => this.slots.get(keys.get(other)) === slot && overlaps(other));
        const slots = [...Array(MOST_BARS).keys()];
        const slot = slots.find(isFree(other => other.from < end(bar) && bar.from < end(other))) ?? slots.find(isFree(other => other.to === null));
        if (slot !== undefined) {
          this.slots.set(key, slot);
          taken.push(bar);
        }
      }
    }
    return all.map(bar => ({ ...bar, slot: this.slots.get(keys.get(bar)) })).filter(bar => bar.slot !== undefined);
  }

  queue({ rows, queue: { top, tall } }) {
    const { ink, colors } = this;
    const todo = this.shown.record.todo();
    const spare = todo.find(story => story.isProbe) ?? todo.find(story => story.isSpare);
    ink.fillStyle = colors.line;
    const bars = this.bars();
    const count = Math.max(...bars.filter(bar => bar.to === null).map(bar => bar.slot + 1), 1);
    const room = tall - this.small - 4;
    const each = Math.min(room / count, 2.4 * this.em);
    for (const bar of bars.filter(it => it.slot < count)) {
      const box = { top: top + bar.slot * each + 2, tall: each - 4 };
      this.bar(bar, box);
      const taker = bar.thread !== null && rows.find(row => row.number === bar.thread);
      const at = this.x(bar.to);
      if (taker && at > 0) {
        ink.strokeStyle = colors.ink;
        ink.lineWidth = 2;
        ink.setLineDash([2, 4]);
        ink.beginPath();
        ink.moveTo(at, box.top);
        ink.lineTo(at, taker.top + taker.tall / 2);
        ink.stroke();
        ink.setLineDash([]);
      }
    }
    if (spare) {
      const from = Math.max(this.x(spare.queuedAt), 0);
      const y = top + tall - this.small / 2 - 1;
      ink.fillStyle = colors.quiet;
      ink.fillRect(from, y - 2, this.width - from, 4);
      this.font(this.small, 400);
      const words = spare.isProbe ? PROBE_WORDS : SPARE_WORDS;
      const wide = this.wide(words);
      const left = from - wide - 8 > 0 ? from - wide - 8 : this.width - wide - 12;
      ink.fillStyle = colors.paper;
      ink.fillRect(left - 4, y - this.small / 2, wide + 8, this.small);
      ink.fillStyle = colors.quiet;
      ink.fillText(words, left, y + 1);
    }
  }

  bar({ story, from: began, to: ended }, { top, tall }) {
    const { ink, colors } = this;
    const from = Math.max(this.x(began), -8);
    const to = this.x(ended ?? this.now);
    ink.save();
    ink.beginPath();
    ink.roundRect(from, top, Math.max(to - from, 3), tall, 4);
    ink.clip();
    ink.fillStyle = colors['waiting-stripe'];
    ink.fillRect(from, top, Math.max(to - from, 3), tall);
    ink.strokeStyle = colors.waiting;
    ink.lineWidth = 7;
    ink.beginPath();
    for (let at = Math.floor(from / 18) * 18 - tall; at < to; at += 18) {
      ink.moveTo(at, top + tall);
      ink.lineTo(at + tall, top);
    }
    ink.stroke();
    ink.lineWidth = 4;
    ink.beginPath();
    ink.roundRect(from, top, Math.max(to - from, 3), tall, 4);
    ink.stroke();
    ink.restore();
    // The name and the seconds, on a plain background: inside the bar, or to its left while the bar is short.
    const size = Math.max(Math.min(this.em, tall - 4), Math.min(this.small, 14));
    this.font(size);
    const words = story.short + ' · ' + tenths((ended ?? this.now) - began);
    const wide = this.wide(words) + 14;
    const fits = Math.max(from, 0) + wide + 12 < to;
    const left = fits ? Math.max(from, 0) + 8 : from - wide - 4;
    if (!fits && (ended !== null || left < 0)) {
      return;
    }
    const high = Math.min(size + 6, tall);
    ink.fillStyle = colors.card;
    ink.beginPath();
    ink.roundRect(left, top + (tall - high) / 2, wide, high, 3);
    ink.fill();
    ink.fillStyle = colors.ink;
    ink.fillText(words, left + 7, top + tall / 2 + 1);
  }

  // ---- Orders, and the time.

  marks({ head, bottom }) {
    const { ink, colors } = this;
    const shared = [];
    for (const mark of this.shown.marks()) {
      const last = shared.at(-1);
      // Marks of tabs opened at about the same time share one label.
      const [, what, number] = /^(.*?)(?: (\d+))?$/.exec(mark.text);
      if (last && mark.at - last.at < SHARED_US) {
        last.words.set(what, [...last.words.get(what) ?? [], number]);
      } else {
        shared.push({ at: mark.at, words: new Map([[what, [number]]]) });
      }
    }
    let free = this.width;
    this.font(this.small, 400);
    for (const { at: us, words } of shared.reverse()) {
      const text = [...words].map(([what, numbers]) => what + (numbers[0] ? ' ' + numbers.join(', ') : numbers.length > 1 ? ' ×' + numbers.length : '')).join(', ');
      const at = this.x(us);
      if (at < 0) {
        break;
      }
      ink.strokeStyle = colors.ink;
      ink.lineWidth = 1.5;
      ink.setLineDash([6, 3]);
      ink.beginPath();
      ink.moveTo(at, 0);
      ink.lineTo(at, bottom);
      ink.stroke();
      ink.setLineDash([]);
      // The label is to the right of its line, or to the left. Newer labels take precedence.
      const wide = this.wide(text) + 6;
      const left = at + wide < free ? at + 4 : at - wide;
      if (left >= 0 && left + wide - 4 <= free && head) {
        ink.fillStyle = colors.ink;
        ink.fillText(text, left, head / 2);
        free = Math.min(left, at) - 6;
      }
    }
  }

  axis({ axis: { top, tall } }) {
    const { ink, colors } = this;
    const seconds = this.span / 1e6;
    const every = seconds <= 20 ? 5 : seconds <= 35 ? 10 : 15;
    this.font(this.small, 400);
    ink.fillStyle = colors.quiet;
    for (let ago = 0; ago <= seconds + 0.01; ago += every) {
      const at = this.width * (1 - ago / seconds);
      const isFirst = ago + every > seconds + 0.01;
      const words = ago === 0 ? 'now' : isFirst ? ago + ' s ago' : String(ago);
      const wide = this.wide(words);
      ink.fillText(words, Math.min(Math.max(at - wide / 2, 0), this.width - wide), top + tall / 2);
      ink.fillRect(Math.min(at, this.width - 1), top, 1, 4);
    }
  }
}
