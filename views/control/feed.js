// The feed: a server's record (record.js), kept up to date by an EventSource, and its
// numbers, which come four times a second. All that stands here was said by the server;
// nothing is guessed, and no timer decides a state.
//
//   const feed = new Feed(token);
//   feed.on(change => …)      after each event: 'moments', 'state' or 'connection'
//   feed.connection           'connecting', 'live', 'silent', 'lost', 'refused'
//   feed.now()                µs on the server's clock, running on between two events
//   feed.clock()              the same, running on without end: when something was here
//   feed.state                the newest numbers: { stats, threads, min, max, … }, or null
//
// Everything else is the record's.
const SILENT_AFTER_MS = 3000;
const COME_BACK_MS = 5000;

class Feed extends Record {
  constructor(token) {
    super();
    this.address = '/events?' + new URLSearchParams({ token });
    this.listeners = [];
    this.connection = 'connecting';
    this.state = null;
    this.server = null;
    this.offset = null;
    this.heardUs = 0;
    this.heardAt = 0;
    this.open();
    setInterval(() => this.watchSilence(), 500);
    // A page that is left may wait in the browser's cache, and would be a viewer all the while.
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
    // Without word from the server time stands: what happens there is not known.
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
        // Too many viewers, or a server that knows no such token: asked again now and then.
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

  // ---- What the server says.

  takeClock(nowUs) {
    this.heardUs = nowUs;
    const offset = nowUs - performance.now() * 1000;
    // What came with the least delay tells best; the clocks drift, so the best fades.
    this.offset = this.offset === null ? offset : Math.max(offset, this.offset - 500);
  }

  takeState(state) {
    if (this.server !== null && this.server !== state.server) {
      // Another server listens there now, with another token.
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
