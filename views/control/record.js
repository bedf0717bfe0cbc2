// The record: a server's moments, folded into one story per request, one lane per thread,
// and todo. It knows no page, no connection and no clock, and guesses nothing: whatever it
// says follows from what the server has sent. The server folds moments by the same rules
// (src/timeline/snapshot.rs), and a test compares the two.
//
//   record.hear(news)         takes in what `event: moments` has sent
//   record.lanes              Map of thread number to lane
//   record.todo()             stories that wait for a thread, the oldest first
//   record.ofTab('3')         stories with ?tab=3, the newest last
//   record.ofClient(client)   the story of a client of the lab, { target, local_port }, or undefined
//   record.log                the last lines in words: { line, at, kind, text }
//   record.since              from when on the record is whole, in µs; null before the first news
//   record.gaps               what is missing since: [{ from, to }]
//
// A story: request, connection, port, method, target (null until it is read or peeked at),
// namedSeq (the moment that told the target), path, tab, name, peeked, isStream, queuedAt
// (while it waits in todo), waited, startedAt, thread (while it runs), lane (the last thread),
// writes, lastWriteAt, reaped, gone, rejected, left, answered, endedAt; and state, one of
// 'waiting' (in todo), 'running' (a thread has it), 'streaming', 'ended'.
// A lane: number, alive, ioBound, from and to (its thread's beginning and end, null where
// unknown), current (a span or null), spans (over), short (a Map of tenths of a second to what
// was too short to draw), keptSince; and state, one of 'absent', 'idle', 'running', 'streaming'.
// A span: story, from, to (null while it lasts), writes, blocked ([from, to] pairs), end.
const WINDOW_US = 60e6;
const SHORT_US = 100e3;
const MOST_SPANS = 700;
const MOST_WRITES = 256;
const MOST_DONE = 512;
const MOST_LINES = 120;
const LONGEST_NAME = 40;
const LONGEST_LINE = 200;

class Record {
  constructor() {
    this.forget();
  }

  forget() {
    this.seq = 0;
    this.since = null;
    this.lastAt = null;
    this.stories = new Map();
    this.queue = new Map();
    this.done = [];
    this.lanes = new Map();
    // Of which threads it is not known what they do, since when; null but in the middle of news.
    this.unknown = null;
    this.anewAt = null;
    this.gaps = [];
    this.log = [];
    this.lines = 0;
    // The request of each client of the lab, by the client's target.
    this.clients = new Map();
  }

  todo() {
    return [...this.queue.values()];
  }

  ofTab(tab) {
    return [...this.stories.values()].filter(story => story.tab === String(tab));
  }

  // The client's request is found once, by its port and target, and kept from then on: another
  // address can use the same port at the same time, and any client can use it later.
  ofClient({ target, local_port: port }) {
    let known = this.clients.get(target);
    if (known?.port !== port) {
      const story = [...this.stories.values()].findLast(it => it.port === port && it.target === target);
      known = story && { port, story };
      known ? this.clients.set(target, known) : this.clients.delete(target);
    }
    if (known) {
      // A request that was put aside and queued again has a newer story.
      known.story = this.stories.get(known.story.request) ?? known.story;
    }
    return known?.story;
  }

  // The lab has these clients, and no others.
  keepClients(clients) {
    const targets = new Set(clients.map(client => client.target));
    for (const target of this.clients.keys()) {
      if (!targets.has(target)) {
        this.clients.delete(target);
      }
    }
  }

  hear(news) {
    const { snapshot } = news;
    const known = this.seq;
    if (snapshot) {
      this.beginAnew(news);
    }
    for (const moment of news.moments) {
      if (moment.seq > known) {
        this.seq = moment.seq;
        this.lastAt = moment.at_us;
        this.take(moment);
      }
    }
    if (snapshot) {
      this.settle(snapshot, news);
    }
    this.prune(news.now_us);
  }

  // ---- The past and the state of now: at the beginning, and where something was missed.

  beginAnew({ since_us, moments, snapshot }) {
    if (this.since === null) {
      this.since = since_us;
    } else if (since_us > this.lastAt && snapshot.seq > this.seq) {
      const missed = (moments.length ? moments[0].seq - 1 : snapshot.seq) - this.seq;
      if (missed > 0) {
        this.gaps.push({ from: this.lastAt, to: since_us });
        this.say(since_us, 'missed', missed + ' moments were not kept for this page: there was too much at once');
      }
    }
    // What a thread does is unknown until a moment tells.
    this.unknown = new Set([...this.lanes.keys(), ...Object.keys(snapshot.threads).map(Number)]);
    this.anewAt = since_us;
    for (const [number, { holds }] of Object.entries(snapshot.threads)) {
      // Its beginning is not among the moments, and what follows is.
      if (holds && holds.started_us < since_us) {
        this.hold(this.lane(Number(number)), holds, since_us);
      }
    }
  }

  // Exactly the server's state after the last moment.
  settle(snapshot, { since_us }) {
    this.seq = Math.max(this.seq, snapshot.seq);
    this.unknown = null;
    const live = new Set();
    for (const lane of this.lanes.values()) {
      const thread = snapshot.threads[lane.number];
      if (!thread || !thread.holds) {
        this.closeUnseen(lane, since_us);
      }
      if (!thread && lane.alive) {
        lane.alive = false;
        lane.to = since_us;
      }
    }
    for (const [number, { from_us, io_bound, holds }] of Object.entries(snapshot.threads)) {
      const lane = this.lane(Number(number));
      Object.assign(lane, { alive: true, from: from_us, to: null, ioBound: io_bound });
      if (holds) {
        this.hold(lane, holds, since_us);
        live.add(lane.current.story);
      }
    }
    this.queue.clear();
    for (const held of snapshot.todo) {
      let story = this.stories.get(held.request);
      if (!story || story.startedAt !== null || story.endedAt !== null) {
        story = this.renew(held);
      }
      this.know(story, held);
      this.queue.set(story.request, story);
      live.add(story);
    }
    for (const story of this.stories.values()) {
      if (!live.has(story) && story.state !== 'ended') {
        story.queuedAt = null;
        this.end(story, since_us);
      }
    }
  }

  // The thread has this request, since before the moments that are known.
  hold(lane, held, at) {
    const { current } = lane;
    if (!current || current.story.request !== held.request || current.from !== held.started_us) {
      this.closeUnseen(lane, at);
      const known = this.stories.get(held.request);
      this.begin(lane, known && known.state !== 'ended' ? known : this.renew(held), held.started_us);
    }
    const { story } = lane.current;
    this.unknown?.delete(lane.number);
    this.know(story, held);
    story.lane = story.thread = lane.number;
    lane.current.end = story.reaped ? 'reaped' : story.gone ? 'gone' : lane.current.end;
  }

  know(story, held) {
    if (held.target !== null && story.target !== held.target) {
      this.name(story, held.method, held.target);
    }
    Object.assign(story, {
      namedSeq: held.named_seq, peeked: held.peeked, queuedAt: held.queued_us, waited: held.waited_us,
      startedAt: held.started_us, isStream: held.is_stream, writes: held.writes, lastWriteAt: held.last_write_us, endedAt: null,
      gone: held.gone && { at: held.gone.at_us, write: held.gone.write, error: held.gone.error },
      reaped: held.reaped && { at: held.reaped.at_us, age: held.reaped.age_ms * 1000, why: held.reaped.why },
    });
  }

  closeUnseen(lane, at) {
    if (lane.current) {
      lane.current.end = 'unseen';
      this.close(lane, Math.max(at, lane.current.from));
    }
  }

  // ---- One moment.

  take(moment) {
    if (moment.thread === undefined) {
      this.takeAtTheDoor(moment);
    } else if (moment.request === undefined) {
      this.takeOfThread(this.lane(moment.thread), moment);
    } else {
      this.takeOnThread(this.lane(moment.thread), moment);
    }
  }

  takeOfThread(lane, moment) {
    const at = moment.at_us;
    this.unknown?.delete(lane.number);
    if (moment.kind === 'spawned') {
      Object.assign(lane, { alive: true, ioBound: false, from: at, to: null });
      this.say(at, 'thread', 'thread ' + lane.number + ' starts');
    } else if (moment.kind === 'exited') {
      this.close(lane, at);
      lane.alive = false;
      lane.to = at;
      this.say(at, 'thread', 'thread ' + lane.number + ' leaves');
    }
  }

  takeAtTheDoor(moment) {
    const at = moment.at_us;
    const queued = this.queue.get(moment.request);
    switch (moment.kind) {
      case 'accepted':
        // One that was peeked at and has left todo is named by the thread that reads it.
        if (!moment.peeked || queued) {
          this.read(queued ?? this.renew(moment), moment);
        }
        if (moment.peeked && queued) {
          this.say(at, 'waits', queued.name + ' waits in todo');
        }
        break;
      case 'queued': {
        // For the second time if not all of it had come; the thread that found that out may
        // still have to say that it is done with it.
        const known = this.stories.get(moment.request);
        const arrives = known && known.startedAt === null && known.endedAt === null && !queued;
        const story = arrives ? known : this.renew(moment);
        story.queuedAt = at;
        this.queue.delete(story.request);
        this.queue.set(story.request, story);
        break;
      }
      case 'withdrawn':
        if (queued) {
          this.queue.delete(queued.request);
          queued.queuedAt = null;
          this.say(at, 'rejected', queued.name + ' leaves todo: its connection was to make room');
          this.end(queued, at);
        }
        break;
      case 'rejected': {
        const story = queued ?? this.stories.get(moment.request) ?? this.renew(moment);
        this.queue.delete(story.request);
        story.queuedAt = null;
        this.reject(story, moment);
        this.end(story, at);
        break;
      }
    }
  }

  takeOnThread(lane, moment) {
    const at = moment.at_us;
    if (moment.kind === 'started') {
      const story = this.queue.get(moment.request) ?? this.renew(moment);
      this.queue.delete(story.request);
      story.waited = story.queuedAt === null ? null : at - story.queuedAt;
      story.queuedAt = null;
      this.begin(lane, story, at);
      if (story.waited > SHORT_US) {
        this.say(at, 'starts', story.name + ' is taken by thread ' + lane.number + ' after ' + seconds(story.waited) + ' in todo');
      }
      return;
    }
    if (moment.kind === 'finished') {
      this.close(lane, at);
      lane.ioBound = false;
      this.unknown?.delete(lane.number);
      return;
    }
    if (moment.kind === 'accepted') {
      if (lane.current?.story.request !== moment.request) {
        // The next request of the connection, without a way through todo.
        this.begin(lane, this.renew(moment), at);
      }
      this.read(lane.current.story, moment);
      return;
    }
    if (moment.kind === 'marked_io_bound') {
      lane.ioBound = true;
      return;
    }
    if (this.unknown?.has(lane.number) && lane.current?.story.request !== moment.request) {
      // It began before the moments that are known.
      this.begin(lane, this.renew(moment), moment.kind === 'answered' ? at - moment.duration_us : this.anewAt);
    }
    if (lane.current?.story.request === moment.request) {
      this.takeOfRequest(lane, lane.current, moment);
    }
  }

  // Of the request that the lane's thread has.
  takeOfRequest(lane, span, moment) {
    const at = moment.at_us;
    const { story } = span;
    switch (moment.kind) {
      case 'streaming':
        story.isStream = true;
        this.say(at, 'streaming', story.name + ' streams on thread ' + lane.number);
        break;
      case 'wrote':
        story.writes += 1;
        story.lastWriteAt = at;
        keep(span.writes, at, MOST_WRITES);
        break;
      case 'blocked':
        keep(span.blocked, [at - moment.us, at], MOST_WRITES);
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
      case 'panicked':
        this.mark(span, 'panicked');
        this.say(at, 'panicked', 'the action of ' + story.name + ' panicked: ' + plain(moment.message, LONGEST_LINE));
        break;
      case 'rejected':
        this.reject(story, moment);
        this.close(lane, at);
        break;
      case 'left':
        story.left = { at };
        this.say(at, 'left', story.name + ' is not served: its client closed before its turn');
        this.close(lane, at);
        break;
      case 'answered':
        story.answered = { at, status: moment.status, bytes: moment.bytes, lasted: moment.duration_us };
        if (!story.isStream && !span.end) {
          this.sayAnswered(story, lane, at);
        }
        this.close(lane, at);
        break;
    }
  }

  read(story, moment) {
    this.name(story, moment.method, moment.target);
    story.namedSeq = moment.seq;
    story.peeked = Boolean(moment.peeked);
  }

  reject(story, { at_us: at, status, why }) {
    story.rejected = { at, status, why };
    this.say(at, 'rejected', story.name + ' is turned away: ' + why);
  }

  mark(span, end) {
    if (span.end !== 'reaped') {
      span.end = end;
    }
  }

  begin(lane, story, at) {
    if (this.unknown?.delete(lane.number)) {
      this.closeUnseen(lane, this.anewAt);
    }
    this.close(lane, at);
    Object.assign(story, { startedAt: at, queuedAt: null, endedAt: null, thread: lane.number, lane: lane.number });
    lane.alive = true;
    lane.current = { story, from: at, to: null, writes: [], blocked: [], end: null };
  }

  // The thread is done with this request, and perhaps not with its connection.
  close(lane, at) {
    const span = lane.current;
    if (!span) {
      return;
    }
    span.to = at;
    lane.current = null;
    this.end(span.story, at);
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
  }

  end(story, at) {
    story.thread = null;
    if (story.endedAt === null) {
      story.endedAt = at;
      this.done.push(story);
      if (this.done.length > MOST_DONE) {
        const oldest = this.done.shift();
        // Its number may be that of a newer story: it was put aside.
        if (this.stories.get(oldest.request) === oldest) {
          this.stories.delete(oldest.request);
        }
      }
    }
  }

  // What ended longer ago than is drawn is dropped.
  prune(now) {
    const from = now - WINDOW_US - 5e6;
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
    keep(this.log, { line: this.lines, at, kind, text }, MOST_LINES);
  }

  // Many answers within a second are one line.
  sayAnswered(story, lane, at) {
    const last = this.log.at(-1);
    if (last && last.kind === 'answered' && at - last.at < 1e6) {
      last.count += 1;
      last.line = this.lines += 1;
      last.text = last.count + ' requests are answered';
      return;
    }
    this.say(at, 'answered', story.name + ' is answered by thread ' + lane.number + ' in ' + seconds(story.answered.lasted));
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

  // A story that begins now, in the place of one whose request was put aside.
  renew({ request, connection, port }) {
    const before = this.stories.get(request);
    const story = new Story(request, connection, port);
    // The newest is the last.
    this.stories.delete(request);
    this.stories.set(request, story);
    if (before && before.thread === null && before.endedAt === null) {
      before.queuedAt = null;
      before.endedAt = before.startedAt ?? 0;
    }
    return story;
  }

  name(story, method, target) {
    story.method = method;
    story.target = target;
    const mark = target.indexOf('?');
    const path = mark < 0 ? target : target.slice(0, mark);
    story.path = path;
    // The last value counts, as in the app.
    story.tab = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1)).getAll('tab').at(-1) ?? null;
    const tab = story.tab && (/^\d+$/.test(story.tab) ? 'tab ' : '') + plain(story.tab, LONGEST_NAME);
    const isPage = path === '/' && tab?.startsWith('tab ');
    story.called = tab ? tab + (isPage ? '’s page' : '') : plain(path, LONGEST_NAME);
  }
}

class Story {
  constructor(request, connection, port) {
    Object.assign(this, {
      request, connection, port, method: null, target: null, namedSeq: null, path: null, tab: null, called: '', peeked: false,
      isStream: false, queuedAt: null, waited: null, startedAt: null, thread: null, lane: null,
      writes: 0, lastWriteAt: null, reaped: null, gone: null, rejected: null, left: null, answered: null, endedAt: null,
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
    Object.assign(this, { number, alive: false, ioBound: false, from: null, to: null, current: null, spans: [], short: new Map(), keptSince: 0 });
  }

  get state() {
    if (this.current) {
      return this.current.story.isStream ? 'streaming' : 'running';
    }
    return this.alive ? 'idle' : 'absent';
  }
}

function keep(list, item, most) {
  list.push(item);
  if (list.length > most) {
    list.shift();
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
