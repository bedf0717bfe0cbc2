// The feed: the server's own record, followed by an EventSource and folded into one
// story a request, one lane a thread, and todo. Whatever a page shows is read from
// here, and all that stands here was said by the server: moments of its timeline, and
// its numbers four times a second. Nothing is guessed, and no timer decides a state.
//
//   const feed = new Feed(token);
//   feed.on(change => …)      after each event: 'moments', 'state' or 'connection'
//   feed.connection           'connecting', 'live', 'silent', 'lost', 'refused'
//   feed.now()                µs on the server's clock, running on between two events
//   feed.clock()              the same, running on without end: when something was here
//   feed.state                the newest numbers: { stats, threads, min, max, … }, or null
//   feed.lanes                Map of thread number to lane
//   feed.todo()               stories that wait for a thread, the oldest first
//   feed.unseen               how many more wait there, of whom the record has nothing
//   feed.ofTab('3')           stories with ?tab=3, the newest last
//   feed.ofPort(port)         the newest story of a client's port, or undefined
//   feed.log                  the last lines in words: { seq, at, kind, text }
//
// A story: request, connection, port, method, target, path, tab, name, peeked, isStream,
// queuedAt (while it waits in todo), waited, startedAt, thread (while it runs), writes,
// lastWriteAt, reaped, gone, rejected, left, endedAt; and state, one of 'waiting' (in todo),
// 'running' (a thread has it), 'streaming', 'ended'.
// A lane: number, alive, from and to (its thread's beginning and end, null where unknown),
// current (a span or null), spans (over), short (a Map of tenths of a second to what was
// too short to draw), keptSince; and state, one of 'absent',
// 'idle', 'running', 'streaming', 'held' (since before the record began).
// A span: story, from, to (null while it lasts), writes, blocked ([from, to] pairs), end.
const WINDOW_US = 60e6;
const SHORT_US = 100e3;
const LATE_US = 2e6;
const MOST_SPANS = 700;
const MOST_WRITES = 256;
const MOST_DONE = 512;
const MOST_LINES = 120;
const SILENT_AFTER_MS = 3000;
const COME_BACK_MS = 5000;
const LONGEST_NAME = 40;
const LONGEST_LINE = 200;

class Feed {
  constructor(token) {
    this.address = '/events?' + new URLSearchParams({ token });
    this.listeners = [];
    this.connection = 'connecting';
    this.forget();
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

  todo() {
    return [...this.queue.values()];
  }

  ofTab(tab) {
    return [...this.stories.values()].filter(story => story.tab === String(tab));
  }

  ofPort(port) {
    let found;
    for (const story of this.stories.values()) {
      if (story.port === port) {
        found = story;
      }
    }
    return found;
  }

  // ---- The connection.

  open() {
    const source = new EventSource(this.address);
    this.source = source;
    source.addEventListener('state', e => this.hear(() => this.takeState(JSON.parse(e.data)), 'state'));
    source.addEventListener('moments', e => this.hear(() => this.takeMoments(JSON.parse(e.data)), 'moments'));
    source.onerror = () => {
      const isOver = source.readyState === EventSource.CLOSED;
      this.become(isOver ? 'refused' : 'lost');
      if (isOver) {
        // Too many viewers, or a server that knows no such token: asked again now and then.
        setTimeout(() => this.source === source && this.open(), COME_BACK_MS);
      }
    };
  }

  hear(take, what) {
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

  forget() {
    this.seq = 0;
    this.since = null;
    this.lastAt = null;
    this.state = null;
    this.startedAt = null;
    this.stories = new Map();
    this.queue = new Map();
    this.unseen = 0;
    this.unseenLast = 0;
    this.done = [];
    this.lanes = new Map();
    this.gaps = [];
    this.missedAt = null;
    this.log = [];
    this.lines = 0;
    this.offset = null;
    this.heardUs = 0;
    this.heardAt = 0;
  }

  takeClock(nowUs) {
    this.heardUs = nowUs;
    const offset = nowUs - performance.now() * 1000;
    // What came with the least delay tells best; the clocks drift, so the best fades.
    this.offset = this.offset === null ? offset : Math.max(offset, this.offset - 500);
  }

  takeState(state) {
    const startedAt = state.stats.started_at;
    if (this.startedAt !== null && this.startedAt !== startedAt) {
      // Another server listens there now, with another token.
      location.reload();
      return;
    }
    this.startedAt = startedAt;
    this.takeClock(state.now_us);
    this.state = state;
    const seen = new Set();
    for (const thread of state.threads) {
      seen.add(thread.number);
      const lane = this.lane(thread.number);
      lane.alive = true;
      const isMissed = this.missedAt !== null && lane.current && lane.current.story.request !== thread.request;
      if (isMissed && lane.current.from < state.now_us - LATE_US) {
        lane.current.end = 'unseen';
        this.close(lane, state.now_us);
      }
      // Its beginning is no longer on its way: it was before the record, or in a gap.
      if (thread.request !== null && thread.age * 1e6 > LATE_US && !lane.current) {
        this.hold(lane, thread, state.now_us);
      }
    }
    if (this.missedAt !== null) {
      for (const lane of this.lanes.values()) {
        lane.alive = seen.has(lane.number);
      }
      // Todo is a queue: those of whom nothing is known any more are its oldest.
      for (const story of this.todo()) {
        if (this.queue.size <= state.stats.backlog) {
          break;
        }
        this.queue.delete(story.request);
        story.queuedAt = null;
        this.end(story, state.now_us);
      }
      if (state.now_us - this.missedAt > 2 * LATE_US) {
        this.missedAt = null;
      }
    }
    // The moments up to these numbers are still on their way: what is lacking twice, lacks.
    const unseen = Math.max(state.stats.backlog - this.queue.size, 0);
    this.unseen = Math.min(unseen, this.unseenLast);
    this.unseenLast = unseen;
    this.prune();
  }

  // A thread whose request began where the record does not reach.
  hold(lane, thread, now) {
    this.queue.delete(thread.request);
    const story = this.story(thread);
    this.name(story, '', thread.path);
    story.startedAt = now - thread.age * 1e6;
    story.thread = lane.number;
    story.queuedAt = null;
    story.endedAt = null;
    story.isHeld = true;
    lane.current = { story, from: story.startedAt, to: null, writes: [], blocked: [], end: null };
  }

  takeMoments(excerpt) {
    this.takeClock(excerpt.now_us);
    if (this.since === null) {
      this.since = excerpt.since_us ?? 0;
    } else if (this.lastAt !== null && excerpt.since_us > this.lastAt) {
      // It begins anew, and not where the last word was.
      this.gaps.push({ from: this.lastAt, to: excerpt.since_us });
      this.missedAt = excerpt.now_us;
    }
    if (excerpt.forgotten > 0) {
      const to = excerpt.moments.length ? excerpt.moments[0].at_us : excerpt.now_us;
      this.gaps.push({ from: this.lastAt ?? this.since, to });
      this.missedAt = to;
      this.say(to, 'missed', excerpt.forgotten + ' moments were not kept for this page: there was too much at once');
    }
    for (const moment of excerpt.moments) {
      if (moment.seq > this.seq) {
        this.seq = moment.seq;
        this.lastAt = moment.at_us;
        this.take(moment);
      }
    }
  }

  take(moment) {
    const at = moment.at_us;
    const lane = moment.thread === undefined ? null : this.lane(moment.thread);
    if (moment.request === undefined) {
      if (moment.kind === 'spawned') {
        lane.alive = true;
        lane.from = at;
        lane.to = null;
        this.say(at, 'thread', 'thread ' + lane.number + ' starts');
      } else if (moment.kind === 'exited') {
        lane.alive = false;
        lane.to = at;
        this.close(lane, at);
        this.say(at, 'thread', 'thread ' + lane.number + ' leaves');
      }
      return;
    }
    const story = this.story(moment);
    const span = lane && lane.current;
    switch (moment.kind) {
      case 'accepted':
        this.name(story, moment.method, moment.target);
        story.peeked = Boolean(moment.peeked);
        if (span && span.story !== story) {
          // The next request of a kept connection, without a way through todo.
          this.close(lane, at);
          this.begin(lane, story, at);
        }
        if (story.peeked) {
          this.say(at, 'waits', story.name + ' waits in todo');
        }
        break;
      case 'queued':
        // The thread that found nothing to read may say later that it is done with it.
        story.thread = null;
        story.queuedAt = at;
        story.endedAt = null;
        this.queue.set(story.request, story);
        break;
      case 'started':
        this.queue.delete(story.request);
        story.waited = story.queuedAt === null ? null : at - story.queuedAt;
        story.queuedAt = null;
        this.begin(lane, story, at);
        if (story.waited > SHORT_US) {
          this.say(at, 'starts', story.name + ' is taken by thread ' + lane.number + ' after ' + seconds(story.waited) + ' in todo');
        }
        break;
      case 'streaming':
        story.isStream = true;
        this.say(at, 'streaming', story.name + ' streams on thread ' + moment.thread);
        break;
      case 'wrote':
        story.writes += 1;
        story.lastWriteAt = at;
        if (span) {
          span.writes.push(at);
          if (span.writes.length > MOST_WRITES) {
            span.writes.shift();
          }
        }
        break;
      case 'blocked':
        if (span) {
          span.blocked.push([at - moment.us, at]);
          if (span.blocked.length > MOST_WRITES) {
            span.blocked.shift();
          }
        }
        this.say(at, 'blocked', 'a write to ' + story.name + ' waited ' + seconds(moment.us) + ' for its reader');
        break;
      case 'disconnected':
        story.gone = { at, write: moment.write, error: moment.error };
        this.mark(span, 'gone');
        this.say(at, 'gone', 'write ' + moment.write + ' to ' + story.name + ' fails (' + moment.error + '): its client is gone');
        break;
      case 'reaped':
        story.reaped = { at, age: moment.age_ms * 1000, why: moment.why };
        this.mark(span, 'reaped');
        this.say(at, 'reaped', story.name + ' is told to end at ' + seconds(moment.age_ms * 1000) + ': ' + moment.why);
        break;
      case 'rejected':
        this.queue.delete(story.request);
        story.queuedAt = null;
        story.rejected = { at, status: moment.status, why: moment.why };
        this.say(at, 'rejected', story.name + ' is turned away: ' + moment.why);
        if (!span) {
          this.end(story, at);
        }
        break;
      case 'left':
        story.left = { at };
        this.say(at, 'left', story.name + ' is not served: its client closed before its turn');
        this.finish(lane, story, at);
        break;
      case 'panicked':
        this.mark(span, 'panicked');
        this.say(at, 'panicked', 'the action of ' + story.name + ' panicked: ' + plain(moment.message, LONGEST_LINE));
        break;
      case 'answered':
        this.finish(lane, story, at);
        break;
      case 'finished':
        this.close(lane, at);
        if (story.thread === null && story.queuedAt === null) {
          // Its beginning was in a gap.
          this.end(story, at);
        }
        break;
    }
  }

  // The thread is done with this request, and perhaps not with its connection.
  finish(lane, story, at) {
    if (lane?.current?.story === story) {
      this.close(lane, at);
    } else {
      this.end(story, at);
    }
  }

  mark(span, end) {
    if (span && span.end !== 'reaped') {
      span.end = end;
    }
  }

  begin(lane, story, at) {
    this.close(lane, at);
    story.isHeld = false;
    story.startedAt = at;
    story.endedAt = null;
    story.thread = lane.number;
    lane.alive = true;
    lane.current = { story, from: at, to: null, writes: [], blocked: [], end: null };
  }

  close(lane, at) {
    const span = lane.current;
    if (!span) {
      return;
    }
    span.to = at;
    lane.current = null;
    if (span.story.thread === lane.number) {
      this.end(span.story, at);
    }
    const lasted = at - span.from;
    if (lasted < SHORT_US && !span.end) {
      const tenth = Math.floor(at / SHORT_US);
      const short = lane.short.get(tenth) ?? { count: 0, busy: 0 };
      // Without a request a thread only looked whether there was one.
      short.count += span.story.target === null ? 0 : 1;
      short.busy += lasted;
      lane.short.set(tenth, short);
    } else {
      lane.spans.push(span);
      if (lane.spans.length > MOST_SPANS) {
        lane.keptSince = lane.spans.shift().to;
      }
    }
    if (!span.story.isStream && !span.story.left && span.story.target !== null && !span.end) {
      this.answered(span.story, lasted, at);
    }
  }

  end(story, at) {
    story.thread = null;
    if (story.endedAt === null) {
      story.endedAt = at;
      this.done.push(story.request);
      if (this.done.length > MOST_DONE) {
        const oldest = this.stories.get(this.done.shift());
        if (oldest && oldest.endedAt !== null) {
          this.stories.delete(oldest.request);
        }
      }
    }
  }

  // What ended longer ago than is drawn is dropped.
  prune() {
    const from = this.heardUs - WINDOW_US - 5e6;
    for (const [number, lane] of this.lanes) {
      while (lane.spans.length && lane.spans[0].to < from) {
        lane.spans.shift();
      }
      for (const tenth of lane.short.keys()) {
        if (tenth * SHORT_US >= from) {
          break;
        }
        lane.short.delete(tenth);
      }
      if (!lane.alive && !lane.current && !lane.spans.length && !lane.short.size) {
        this.lanes.delete(number);
      }
    }
    this.gaps = this.gaps.filter(gap => gap.to >= from).slice(-MOST_WRITES);
  }

  // ---- Words.

  say(at, kind, text) {
    this.lines += 1;
    this.log.push({ line: this.lines, at, kind, text });
    if (this.log.length > MOST_LINES) {
      this.log.shift();
    }
  }

  // Many answers within a second are one line.
  answered(story, lasted, at) {
    const last = this.log.at(-1);
    if (last && last.kind === 'answered' && at - last.at < 1e6) {
      last.count += 1;
      last.line = this.lines += 1;
      last.text = last.count + ' requests are answered';
      return;
    }
    this.say(at, 'answered', story.name + ' is answered by thread ' + story.lane + ' in ' + seconds(lasted));
    this.log.at(-1).count = 1;
  }

  // ---- Finding things.

  lane(number) {
    let lane = this.lanes.get(number);
    if (!lane) {
      lane = new Lane(number);
      this.lanes.set(number, lane);
    }
    return lane;
  }

  story(moment) {
    let story = this.stories.get(moment.request);
    if (!story) {
      story = new Story(moment.request, moment.connection, moment.port);
      this.stories.set(moment.request, story);
    }
    if (moment.thread !== undefined) {
      story.lane = moment.thread;
    }
    return story;
  }

  name(story, method, target) {
    story.method = method;
    story.target = target;
    const [path, query] = target.split('?', 2);
    story.path = path;
    story.tab = new URLSearchParams(query ?? '').get('tab');
    const tab = story.tab && (/^\d+$/.test(story.tab) ? 'tab ' : '') + plain(story.tab, LONGEST_NAME);
    const isPage = path === '/' && tab?.startsWith('tab ');
    story.called = tab ? tab + (isPage ? '’s page' : '') : plain(path, LONGEST_NAME);
  }
}

class Story {
  constructor(request, connection, port) {
    Object.assign(this, {
      request, connection, port, method: '', target: null, path: null, tab: null, called: '', peeked: false,
      isStream: false, isHeld: false, queuedAt: null, waited: null, startedAt: null, thread: null, lane: null,
      writes: 0, lastWriteAt: null, reaped: null, gone: null, rejected: null, left: null, endedAt: null,
    });
  }

  // What a person calls it: tab 3, zombie-1, or its path.
  get name() {
    return this.called || 'connection ' + this.connection;
  }

  // Its request line, as the tooltips say it.
  get line() {
    return plain((this.method + ' ' + this.target).trim(), LONGEST_LINE);
  }

  get state() {
    if (this.queuedAt !== null) {
      return 'waiting';
    }
    if (this.thread === null) {
      return 'ended';
    }
    return this.isStream ? 'streaming' : 'running';
  }
}

class Lane {
  constructor(number) {
    Object.assign(this, { number, alive: false, from: null, to: null, current: null, spans: [], short: new Map(), keptSince: 0 });
  }

  get state() {
    if (this.current) {
      const { story } = this.current;
      // One that it found nothing to read from may be in todo again before it is done with it.
      return story.isHeld ? 'held' : story.thread === this.number ? story.state : 'running';
    }
    return this.alive ? 'idle' : 'absent';
  }
}

// What a client wrote, fit to stand in a line: cut, and without the signs that are not seen
// or turn round what follows.
function plain(text, most) {
  const signs = [...text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd')];
  return signs.length > most ? signs.slice(0, most - 1).join('') + '…' : signs.join('');
}

function seconds(us) {
  return us < 10e3 ? (us / 1e3).toFixed(1) + ' ms' : us < 1e6 ? Math.round(us / 1e3) + ' ms' : (us / 1e6).toFixed(1) + ' s';
}
