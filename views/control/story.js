// The story of a request and the lane of a thread, as record.js folds them, and their names.
//
// A story: request, connection, port, method, target (null until it is read or peeked at),
// namedSeq (the moment that named the target), path, tab, name, peeked, isStream, queuedAt
// (while it is in the queue), waited, startedAt, thread (while it runs), lane (the last thread),
// writes, lastWriteAt, closedAt (when its client closed, if the record has it), reaped, gone (the write
// that failed), rejected, left, answered, endedAt; and state, one of 'waiting' (in the queue), 'running'
// (a thread has it), 'streaming', 'ended'.
// A lane: number, alive, ioBound, from and to (when its thread began and ended, null where unknown),
// current (a span or null), spans (those that are over), short (a Map from tenths of a second to what
// was too short to draw), keptSince; and state, one of 'absent', 'idle', 'running', 'streaming'.
// A span: story, from, to (null while it lasts), writes, blocked ([from, to] pairs), end.
const SHORT_US = 100e3;
// The recorded error if a stream saw on its socket that its client closed. In this case, no write failed.
const SEEN_CLOSED = 'POLLRDHUP';
const LONGEST_NAME = 40;
const LONGEST_LINE = 200;
const PROBE = 'page-latency';

class Story {
  constructor({ request, connection, port }) {
    Object.assign(this, {
      request, connection, port, method: null, target: null, namedSeq: null, path: null, tab: null, called: '', peeked: false,
      isStream: false, queuedAt: null, waited: null, startedAt: null, thread: null, lane: null,
      writes: 0, lastWriteAt: null, closedAt: null, reaped: null, gone: null, rejected: null, left: null, answered: null, endedAt: null,
    });
  }

  // Stores the method and the target of the request.
  asks(method, target) {
    this.method = method;
    this.target = target;
    const mark = target.indexOf('?');
    this.path = mark < 0 ? target : target.slice(0, mark);
    // The last value counts, as in the app.
    this.tab = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1)).getAll('tab').at(-1) ?? null;
    const tab = this.tab && (/^\d+$/.test(this.tab) ? 'tab ' : '') + plain(this.tab, LONGEST_NAME);
    const isPage = this.path === '/' && tab?.startsWith('tab ');
    this.called = tab ? tab + (isPage ? '’s page' : '') : plain(this.path, LONGEST_NAME);
  }

  // A name to show: tab 3, zombie-1, or its path.
  get name() {
    return this.called || WORDS.spare;
  }

  // A shorter name, which does not distinguish the page of a tab from its stream.
  get short() {
    return this.name.replace(/’s page$/, '');
  }

  // A browser opens some connections in advance; the server has seen no request on this one.
  get isSpare() {
    return this.target === null;
  }

  // The request with which the latency of a page is measured (beside_latency.rs).
  get isProbe() {
    return this.tab === PROBE;
  }

  // Puma counts it as waiting, but it has sent no request, or only measures the latency.
  get isUncounted() {
    return this.isSpare || this.isProbe;
  }

  // Its request line, for the tooltips.
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
    Object.assign(this, {
      number, alive: false, ioBound: false, from: null, to: null, current: null, spans: [], short: new Map(), keptSince: 0,
      // The time since which the state of the thread is unknown. Null except while an update is processed.
      unknownSince: null,
    });
  }

  has(request) {
    return this.current?.story.request === request;
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

// A client's text for one line of a page: shortened, and without invisible characters or characters that
// reverse the text after them.
function plain(text, most) {
  const signs = [...text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd')];
  return signs.length > most ? signs.slice(0, most - 1).join('') + '…' : signs.join('');
}

function seconds(us) {
  return us < 10e3 ? (us / 1e3).toFixed(1) + ' ms' : us < 1e6 ? Math.round(us / 1e3) + ' ms' : (us / 1e6).toFixed(1) + ' s';
}

// One decimal, so that the text keeps its width while the number grows.
function tenths(us) {
  return Math.max(us / 1e6, 0).toFixed(1) + ' s';
}

function many(count, word) {
  return count + ' ' + word + (count === 1 ? '' : 's');
}
