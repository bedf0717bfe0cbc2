// The feed: a server's record (record.js), kept up to date by an EventSource, and its numbers,
// which arrive four times per second. Everything in it comes from the server, except the times at
// which this page closed its own frames. A timer decides only whether the server has been silent
// for too long.
//
//   const feed = new Feed(token);
//   feed.on(change => …)      after each event: 'moments', 'state' or 'connection'
//   feed.connection           'connecting', 'live', 'silent', 'lost', 'refused'
//   feed.now()                µs on the server's clock, which advances between two events as well
//   feed.clock()              the same, without a limit, for what happens on this page
//   feed.state                the newest numbers: { stats, threads, min, max, … }, or null
//   feed.goneAt               Map of request number to when this page closed its client
//   feed.ownMarks             what this page closed: [{ at, text }]
//   feed.marks()              the same, and the orders
//   feed.closed(story, text)  this page has closed the client of a story
const SILENT_AFTER_MS = 3000;
const COME_BACK_MS = 5000;
const MOST_GONE = 256;
const MOST_MARKS = 64;

class Feed extends Record {
  constructor(token) {
    super();
    this.address = '/events?' + new URLSearchParams({ token });
    this.listeners = [];
    this.goneAt = new Map();
    this.ownMarks = [];
    this.connection = 'connecting';
    this.state = null;
    this.server = null;
    this.offset = null;
    this.heardUs = 0;
    this.heardAt = 0;
    this.open();
    setInterval(() => this.watchSilence(), 500);
    // A page that is left may stay in the browser's cache, where it must not count as a viewer.
    addEventListener('pagehide', () => this.source.close());
    addEventListener('pageshow', e => {
      if (e.persisted) {
        this.become('connecting');
        this.open();
      }
    });
  }

  on(listener) {
    this.listeners.push(listener);
  }

  now() {
    // While nothing is heard from the server its state is unknown, so time stops.
    return Math.min(this.clock(), this.heardUs + (this.connection === 'live' ? SILENT_AFTER_MS * 1000 : 0));
  }

  clock() {
    return this.offset === null ? 0 : performance.now() * 1000 + this.offset;
  }

  // ---- The connection.

  open() {
    const source = new EventSource(this.address);
    this.source = source;
    source.addEventListener('state', e => this.heard(() => this.takeState(JSON.parse(e.data)), 'state'));
    source.addEventListener('moments', e => this.heard(() => this.takeMoments(JSON.parse(e.data)), 'moments'));
    source.onerror = () => {
      const isOver = source.readyState === EventSource.CLOSED;
      this.become(isOver ? 'refused' : 'lost');
      if (isOver) {
        // There are too many viewers, or the token is of another server: try again every few seconds.
        setTimeout(() => this.source === source && this.open(), COME_BACK_MS);
      }
    };
  }

  heard(take, what) {
    this.heardAt = performance.now();
    take();
    this.become('live');
    this.tell(what);
  }

  become(connection) {
    if (this.connection !== connection) {
      this.connection = connection;
      this.tell('connection');
    }
  }

  watchSilence() {
    if (this.connection === 'live' && performance.now() - this.heardAt > SILENT_AFTER_MS) {
      this.become('silent');
    }
  }

  tell(change) {
    this.listeners.forEach(listener => listener(change));
  }

  // A copy of the record as it is now, which later updates do not change.
  copy() {
    const copy = new Record();
    const stories = new Map();
    const copied = story => stories.get(story) ?? stories.set(story, Object.assign(Object.create(Story.prototype), story)).get(story);
    const span = it => it && { ...it, story: copied(it.story), to: it.to, writes: [...it.writes], blocked: [...it.blocked] };
    for (const [number, lane] of this.lanes) {
      copy.lanes.set(number, Object.assign(new Lane(number), lane, { current: span(lane.current), spans: lane.spans.map(span), short: new Map(lane.short) }));
    }
    copy.queue = new Map([...this.queue].map(([request, story]) => [request, copied(story)]));
    copy.actions = new Map([...this.actions].map(([worker, action]) => [worker, { ...action }]));
    copy.pastActions = [...this.pastActions];
    copy.waits = this.waits.map(wait => ({ ...wait, story: copied(wait.story) }));
    return Object.assign(copy, { seq: this.seq, since: this.since, lastAt: this.lastAt, gaps: [...this.gaps], orders: [...this.orders] });
  }

  // ---- What was closed and ordered.

  closed(story, text) {
    const at = this.clock();
    if (story) {
      this.gone(story, at);
    }
    keep(this.ownMarks, { at, text }, MOST_MARKS);
  }

  gone({ request }, at) {
    if (!this.goneAt.has(request)) {
      this.goneAt.set(request, at);
      if (this.goneAt.size > MOST_GONE) {
        this.goneAt.delete(this.goneAt.keys().next().value);
      }
    }
  }

  marks() {
    return [...this.orders, ...this.ownMarks].sort((a, b) => a.at - b.at);
  }

  // ---- What the server sends.

  takeClock(nowUs) {
    this.heardUs = nowUs;
    const offset = nowUs - performance.now() * 1000;
    // The event with the smallest delay gives the most exact offset. Since clocks drift, older offsets count less.
    this.offset = this.offset === null ? offset : Math.max(offset, this.offset - 500);
  }

  takeState(state) {
    if (this.server !== null && this.server !== state.server) {
      // Another server, with another token, has taken over this address.
      this.source.close();
      location.reload();
      return;
    }
    this.server = state.server;
    this.takeClock(state.now_us);
    this.state = state;
    this.keepClients(Object.values(state.lab).flat());
    this.prune(state.now_us);
  }

  takeMoments(news) {
    this.takeClock(news.now_us);
    this.hear(news);
  }
}
