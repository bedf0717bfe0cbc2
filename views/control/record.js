// The record: a server's moments, folded into one story per request, one lane per thread
// (story.js), and the queue (Puma's todo). It does not depend on a page, a connection or a clock:
// everything follows from the server's moments. The server folds them by the same rules
// (timeline/snapshot.rs in its crate), and a test compares the two.
//
//   record.hear(news)         processes the data of `event: moments`
//   record.lanes              Map of thread number to lane
//   record.todo()             stories that wait for a thread, the oldest first
//   record.waits              waits in the queue that have ended: { story, from, to, thread }
//   record.ofTab('3')         stories with ?tab=3, the newest last
//   record.ofClient(client)   the story of a client of the lab, { target, local_port }, or undefined
//   record.orders             orders to the server: { at, text }
//   record.log                the last lines in words (words.js): { line, at, kind, text }
//   record.since              the record is complete from here on, in µs; null before the first news
//   record.gaps               what is missing after `since`: [{ from, to }]
const WINDOW_US = 60e6;
const MOST_SPANS = 700;
const MOST_WRITES = 256;
const MOST_DONE = 512;
const MOST_LINES = 120;
const MOST_WAITS = 64;
const MOST_ORDERS = 64;
// A moment of these kinds ends the request of its thread.
const ENDING = new Set(['answered', 'rejected', 'left']);
// Moments of these kinds are about a thread, whatever request it has.
const OF_THREAD = new Set(['finished', 'marked_io_bound']);
// Returns the kind and the text of a moment's line in the log, or null. Only a page with a log loads words.js.
let wordsOf = () => null;

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
    this.actions = new Map();
    this.pastActions = [];
    this.gaps = [];
    this.waits = [];
    this.orders = [];
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

  // The client's request is looked up once, by port and target, and then remembered, because another address can use
  // the same port at the same time, and any client can use it later.
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

  // Forgets clients that the lab no longer has.
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
      this.settle(news);
    }
    this.prune(news.now_us);
  }

  // ---- The past and the current state: at the start, and after missed moments.

  beginAnew({ since_us: since, moments, snapshot }) {
    if (this.since === null) {
      this.since = since;
    } else if (since > this.lastAt && snapshot.seq > this.seq) {
      const missed = (moments.length ? moments[0].seq - 1 : snapshot.seq) - this.seq;
      if (missed > 0) {
        this.gaps.push({ from: this.lastAt, to: since });
        this.say(since, 'missed', missed + ' events are missing: there were too many');
      }
    }
    Object.keys(snapshot.threads).forEach(number => this.lane(Number(number)));
    for (const lane of this.lanes.values()) {
      const holds = snapshot.threads[lane.number]?.holds;
      lane.unknownSince = since;
      if (holds && holds.started_us < since) {
        // Its start is not among the moments, but all later moments are.
        this.hold(lane, holds, since);
      }
    }
  }

  // Sets exactly the server's state after the last moment.
  settle({ since_us: since, snapshot }) {
    this.seq = Math.max(this.seq, snapshot.seq);
    for (const lane of this.lanes.values()) {
      const thread = snapshot.threads[lane.number];
      if (thread) {
        Object.assign(lane, { alive: true, from: thread.from_us, to: null, ioBound: thread.io_bound });
      } else if (lane.alive) {
        Object.assign(lane, { alive: false, to: since });
      }
      if (thread?.holds) {
        this.hold(lane, thread.holds, since);
      } else {
        this.close(lane, since, 'unseen');
      }
      lane.unknownSince = null;
    }
    this.settleActions?.(snapshot.actions ?? {}, since);
    this.queue.clear();
    for (const held of snapshot.todo) {
      const known = this.stories.get(held.request);
      const story = known && known.startedAt === null && known.endedAt === null ? known : this.renew(held);
      this.know(story, held);
      this.queue.set(story.request, story);
    }
    const live = new Set(this.queue.values());
    this.lanes.forEach(lane => lane.current && live.add(lane.current.story));
    for (const story of this.stories.values()) {
      if (!live.has(story) && story.state !== 'ended') {
        this.end(story, since);
      }
    }
  }

  // Gives the thread this request, whatever it had before.
  hold(lane, held, at) {
    if (!lane.has(held.request) || lane.current.from !== held.started_us) {
      this.close(lane, at, 'unseen');
      const known = this.stories.get(held.request);
      if (known?.thread) {
        // Another thread returned it to the queue, and this page has missed that.
        this.close(this.lane(known.thread), at, 'unseen');
      }
      this.begin(lane, known && known.state !== 'ended' ? known : this.renew(held), held.started_us);
    }
    lane.unknownSince = null;
    const { current } = lane;
    this.know(current.story, held);
    current.end = held.reaped ? 'reaped' : held.gone ? 'gone' : current.end;
  }

  know(story, held) {
    if (held.target !== null && story.target !== held.target) {
      story.asks(held.method, held.target);
    }
    Object.assign(story, {
      namedSeq: held.named_seq, peeked: held.peeked, queuedAt: held.queued_us, waited: held.waited_us,
      startedAt: held.started_us, isStream: held.is_stream, writes: held.writes, lastWriteAt: held.last_write_us, endedAt: null, closedAt: held.closed_us ?? null,
      gone: held.gone && { at: held.gone.at_us, write: held.gone.write, error: held.gone.error },
      reaped: held.reaped && { at: held.reaped.at_us, age: held.reaped.age_ms * 1000, why: held.reaped.why },
    });
  }

  // ---- One moment: what it begins, changes or ends.

  take(moment) {
    if (moment.kind === 'ordered') {
      keep(this.orders, { at: moment.at_us, text: moment.text }, MOST_ORDERS);
      this.describe(moment);
    } else if (moment.kind === 'database') {
      this.describe(moment);
    } else if (moment.worker) {
      this.takeOfAction?.(moment);
    } else if (moment.thread === undefined) {
      this.takeAtTheDoor(moment);
    } else if (moment.request === undefined) {
      this.takeOfThread(this.lane(moment.thread), moment);
    } else {
      this.takeOnThread(this.lane(moment.thread), moment);
    }
  }

  takeOfThread(lane, moment) {
    const at = moment.at_us;
    this.endUnseen(lane);
    if (moment.kind === 'spawned') {
      Object.assign(lane, { alive: true, ioBound: false, from: at, to: null });
    } else if (moment.kind === 'exited') {
      this.close(lane, at);
      Object.assign(lane, { alive: false, to: at });
    }
    this.describe(moment, null, lane);
  }

  takeAtTheDoor(moment) {
    const at = moment.at_us;
    const known = this.stories.get(moment.request);
    const queued = this.queue.get(moment.request);
    switch (moment.kind) {
      case 'accepted':
        // If the request has left the queue, the thread that reads it reports its target.
        if (!moment.peeked || queued) {
          const story = queued ?? this.renew(moment);
          this.read(story, moment);
          this.describe(moment, story);
        }
        break;
      case 'queued': {
        // A request that was incomplete the first time is queued a second time. The thread that found it incomplete may
        // not have recorded its end yet.
        const arrives = known && known.startedAt === null && known.endedAt === null && !queued;
        const story = arrives ? known : this.renew(moment);
        story.queuedAt = at;
        this.queue.delete(story.request);
        this.queue.set(story.request, story);
        break;
      }
      case 'withdrawn':
        if (queued) {
          this.describe(moment, queued);
          this.end(queued, at);
        }
        break;
      case 'rejected': {
        const story = queued ?? known ?? this.renew(moment);
        story.rejected = { at, status: moment.status, why: moment.why };
        this.describe(moment, story);
        this.end(story, at);
        break;
      }
      case 'client_closed':
        // A request that is queued again may still be with the thread that took it first.
        for (const story of [queued, ...[...this.lanes.values()].filter(lane => lane.has(moment.request)).map(lane => lane.current.story)]) {
          if (story) {
            story.closedAt ??= at;
          }
        }
        break;
      case 'reaped':
      case 'panicked': {
        // An action on a thread of its own, whose request may have ended.
        const lane = [...this.lanes.values()].find(lane => lane.has(moment.request));
        if (lane && moment.kind === 'panicked') {
          this.mark(lane.current, 'panicked');
        }
        const story = this.storyOfAction?.(moment.request) ?? known;
        if (story) {
          this.describe(moment, story);
        }
        break;
      }
    }
  }

  // After a gap, the thread has a different request, so the old one ended in the gap.
  endUnseen(lane) {
    if (lane.unknownSince !== null) {
      this.close(lane, lane.unknownSince, 'unseen');
      lane.unknownSince = null;
    }
  }

  takeOnThread(lane, moment) {
    const { kind, request, at_us: at } = moment;
    if (kind === 'started') {
      this.begin(lane, this.queue.get(request) ?? this.renew(moment), at);
    } else if (kind === 'accepted' && !lane.has(request)) {
      // The next request of the connection, which did not go through the queue.
      this.begin(lane, this.renew(moment), at);
    } else if (lane.unknownSince !== null && !lane.has(request) && !OF_THREAD.has(kind)) {
      // It began before the first known moment.
      this.begin(lane, this.renew(moment), kind === 'answered' ? at - moment.duration_us : lane.unknownSince);
    }
    const isOfItsRequest = lane.has(request);
    if (isOfItsRequest) {
      this.note(lane.current, moment);
      this.describe(moment, lane.current.story, lane);
    }
    if (kind === 'marked_io_bound') {
      lane.ioBound = true;
    } else if (kind === 'finished') {
      if (!isOfItsRequest) {
        this.endUnseen(lane);
      }
      Object.assign(lane, { ioBound: false, unknownSince: null });
      this.close(lane, at);
    } else if (isOfItsRequest && ENDING.has(kind)) {
      this.close(lane, at);
    }
  }

  // Applies a moment to the request that the thread has.
  note(span, moment) {
    const at = moment.at_us;
    const { story } = span;
    switch (moment.kind) {
      case 'accepted':
        this.read(story, moment);
        break;
      case 'streaming':
        story.isStream = true;
        break;
      case 'wrote':
        story.writes += 1;
        story.lastWriteAt = at;
        keep(span.writes, at, MOST_WRITES);
        break;
      case 'blocked':
        keep(span.blocked, [at - moment.us, at], MOST_WRITES);
        break;
      case 'disconnected':
        story.gone = { at, write: moment.write, error: moment.error };
        this.mark(span, 'gone');
        break;
      case 'reaped':
        story.reaped = { at, age: moment.age_ms * 1000, why: moment.why };
        this.mark(span, 'reaped');
        break;
      case 'panicked':
        this.mark(span, 'panicked');
        break;
      case 'rejected':
        story.rejected = { at, status: moment.status, why: moment.why };
        break;
      case 'left':
        story.left = { at };
        break;
      case 'answered':
        story.answered = { at, status: moment.status, bytes: moment.bytes, lasted: moment.duration_us };
        break;
    }
  }

  read(story, moment) {
    story.asks(moment.method, moment.target);
    story.namedSeq = moment.seq;
    story.peeked = Boolean(moment.peeked);
  }

  mark(span, end) {
    if (span.end !== 'reaped') {
      span.end = end;
    }
  }

  begin(lane, story, at) {
    // If moments were missed, the thread's previous request ended in between.
    this.close(lane, lane.unknownSince ?? at, lane.unknownSince === null ? undefined : 'unseen');
    lane.unknownSince = null;
    this.leaveQueue(story, at, lane.number);
    story.waited = story.queuedAt === null ? null : at - story.queuedAt;
    Object.assign(story, { startedAt: at, queuedAt: null, endedAt: null, thread: lane.number, lane: lane.number });
    lane.alive = true;
    lane.current = { story, from: at, to: null, writes: [], blocked: [], end: null };
  }

  // A thread has taken the request, or no thread will (null).
  leaveQueue(story, at, thread) {
    this.queue.delete(story.request);
    if (story.queuedAt !== null && at - story.queuedAt >= SHORT_US && !(thread === null && story.isSpare)) {
      keep(this.waits, { story, from: story.queuedAt, to: at, thread }, MOST_WAITS);
    }
  }

  // The thread is done with this request, but perhaps not with its connection.
  close(lane, at, end) {
    const span = lane.current;
    if (!span) {
      return;
    }
    span.to = Math.max(at, span.from);
    span.end = end ?? span.end;
    lane.current = null;
    this.end(span.story, span.to);
    const lasted = span.to - span.from;
    if (lasted < SHORT_US && !span.end) {
      const tenth = Math.floor(span.to / SHORT_US);
      const short = lane.short.get(tenth) ?? { count: 0, busy: 0 };
      // Without a target, the thread only checked whether a request had arrived.
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
    if (this.queue.get(story.request) === story) {
      this.leaveQueue(story, at, null);
    }
    story.queuedAt = null;
    story.thread = null;
    if (story.endedAt === null) {
      story.endedAt = at;
      this.done.push(story);
      if (this.done.length > MOST_DONE) {
        const oldest = this.done.shift();
        // A newer story may have its number, if the request was put aside.
        if (this.stories.get(oldest.request) === oldest) {
          this.stories.delete(oldest.request);
        }
      }
    }
  }

  // Drops whatever ended before the longest window that can be drawn.
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
    this.waits = this.waits.filter(wait => wait.to >= from);
    this.pastActions = this.pastActions.filter(action => action.to >= from);
    this.orders = this.orders.filter(order => order.at >= from);
  }

  // ---- Words.

  describe(moment, story, lane) {
    const words = wordsOf(moment, story, lane);
    if (words) {
      this.say(moment.at_us, ...words);
    }
  }

  say(at, kind, text) {
    this.lines += 1;
    const last = this.log.at(-1);
    if (kind === 'answered' && last?.kind === 'answered' && at - last.at < 1e6) {
      // Answers within one second share a line.
      last.count += 1;
      Object.assign(last, { line: this.lines, text: last.count + ' requests were answered' });
    } else {
      keep(this.log, { line: this.lines, at, kind, text, count: 1 }, MOST_LINES);
    }
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

  // Begins a new story of a request, in place of one that was put aside.
  renew(subject) {
    const before = this.stories.get(subject.request);
    const story = new Story(subject);
    // The newest story is the last.
    this.stories.delete(story.request);
    this.stories.set(story.request, story);
    if (before && before.thread === null && before.endedAt === null) {
      before.queuedAt = null;
      before.endedAt = before.startedAt ?? 0;
    }
    return story;
  }
}
