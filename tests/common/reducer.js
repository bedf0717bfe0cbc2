// Applies news to a record, as the pages do. Each line of standard input is JSON, and each viewer has its own
// record.
//
// - `{ viewer, news }` applies the news.
// - `{ viewer, show: true }` prints the record in the format of the server's own snapshot, and everything in it
//   that cannot be true.
// - `{ viewer, clients }` prints the requests of these clients of the lab.
// - `{ viewer, log: true }` prints the lines of the log.
const fs = require('fs');
const vm = require('vm');
const readline = require('readline');

const words = 'const WORDS = ' + process.env.STATE_WORDS + '; const EVENT_WORDS = ' + process.env.EVENT_WORDS + ';';
const sources = [words, ...process.argv.slice(2).map(path => fs.readFileSync(path, 'utf8'))].join('\n');
const { Record } = vm.runInThisContext(sources + '\n;({ Record });');
const viewers = new Map();
const request = story => story ? story.request : null;

function held(story) {
  return {
    connection: story.connection, port: story.port, request: story.request, method: story.method, target: story.target,
    named_seq: story.namedSeq, peeked: story.peeked, queued_us: story.queuedAt, waited_us: story.waited, started_us: story.startedAt,
    is_stream: story.isStream, writes: story.writes, last_write_us: story.lastWriteAt, closed_us: story.closedAt,
    gone: story.gone && { at_us: story.gone.at, write: story.gone.write, error: story.gone.error },
    reaped: story.reaped && { at_us: story.reaped.at, age_ms: story.reaped.age / 1000, why: story.reaped.why },
  };
}

function wrong(record) {
  const found = record.log.map(line => line.text).filter(text => /null|NaN|undefined|(in|after|at|waited) -/.test(text));
  for (const lane of record.lanes.values()) {
    const held = lane.current?.story;
    if (held && (held.thread !== lane.number || held.state === 'ended')) {
      found.push('thread ' + lane.number + ' has ' + held.name + ', which is ' + held.state + ' on thread ' + held.thread);
    }
    for (const span of [...lane.spans, ...(lane.current ? [lane.current] : [])]) {
      if (span.to !== null && span.to < span.from) {
        found.push('thread ' + lane.number + ': a span of ' + (span.to - span.from) + ' us');
      }
    }
    for (const short of lane.short.values()) {
      if (short.busy < 0) {
        found.push('thread ' + lane.number + ': busy for ' + short.busy + ' us');
      }
    }
  }
  for (const story of record.stories.values()) {
    const live = story.state !== 'ended';
    const listed = record.queue.get(story.request) === story || [...record.lanes.values()].some(lane => lane.current?.story === story);
    if (story.waited < 0 || (live && !listed)) {
      found.push(story.name + ' is ' + story.state + ', waited ' + story.waited + ', listed: ' + listed);
    }
  }
  return found;
}

function show(record) {
  const threads = {};
  for (const lane of record.lanes.values()) {
    if (lane.alive) {
      threads[lane.number] = { from_us: lane.from, io_bound: lane.ioBound, holds: lane.current && held(lane.current.story) };
    }
  }
  const actions = Object.fromEntries([...record.actions.values()].map(({ worker, story, from, committedAt, orphanedAt }) => [worker, {
    connection: story.connection, port: story.port, request: story.request, target: story.target,
    began_us: from, committed_us: committedAt, orphaned_us: orphanedAt,
  }]));
  const spans = Object.fromEntries([...record.lanes.values()].map(lane =>
    [lane.number, lane.spans.map(({ from, to, end }) => ({ from, to, end }))]));
  const kept = [record.stories.size, record.log.length, record.done.length];
  const names = [...record.stories.values()].map(story => story.name);
  return { names, snapshot: { seq: record.seq, threads, todo: record.todo().map(held), ...(record.actions.size ? { actions } : {}) }, wrong: wrong(record), spans, gaps: record.gaps.length, kept };
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  const { viewer, news, show: shows, clients, log } = JSON.parse(line);
  if (!viewers.has(viewer)) {
    viewers.set(viewer, new Record());
  }
  if (news) {
    viewers.get(viewer).hear(news);
  }
  if (clients) {
    console.log(JSON.stringify(clients.map(client => request(viewers.get(viewer).ofClient(client)))));
  }
  if (log) {
    console.log(JSON.stringify(viewers.get(viewer).log.map(({ text }) => text)));
  }
  if (shows) {
    console.log(JSON.stringify(show(viewers.get(viewer))));
  }
});
