// Two walls side by side, on either side: what the wall says of itself, and the latency of a page.
//
// The latency is that of a request which the control server sends to its own app, once a second if
// none is under way. When it was queued and answered is in the record.
const MEASURE_EVERY_MS = 1000;
const LONGEST_PART = 36;

const asked = new URLSearchParams(location.search);
// The headline asks no question, and the control server's warnings count the request that measures.
wall.begun();
wall.warns = false;

// The numbers of the sentence above the walls.
function sideOf(wall) {
  const pool = poolOf(feed, feed.now(), feed.state?.max ?? 0, story => shown.goneAt(story));
  const counts = wall.counts();
  return {
    held: pool.held, waiting: pool.waiting.length, first: pool.waiting.length ? calledFirst(pool.waiting[0]) : '',
    streaming: counts.streaming ?? 0, answered: counts.answered ?? 0, inBrowser: counts['waiting-for-socket'] ?? 0,
    open: wall.tabs.filter(tab => tab.isOpen).length, tabs: wall.tabs.length,
  };
}

// [words, whether it waits], or null before the first measurement.
function latencyOf(record, now) {
  const probes = [...record.stories.values()].filter(story => story.isProbe);
  const open = probes.find(isAtServer);
  const since = open && now - (open.queuedAt ?? open.startedAt - (open.waited ?? 0));
  if (since >= MEASURE_EVERY_MS * 1000) {
    return ['page: no answer for ' + Math.floor(since / 1e6) + ' s', true];
  }
  const last = probes.findLast(story => story.answered);
  return last ? ['page: ' + seconds((last.waited ?? 0) + last.answered.lasted), false] : null;
}

function showLatency() {
  // Each part of the headline stands on a line of its own.
  set(at('headline').dataset, 'long', String([...at('headline').children].some(part => part.textContent.length > LONGEST_PART)));
  const [words, waits] = latencyOf(feed, feed.now()) ?? ['page: not measured yet', false];
  write(at('latency'), words);
  set(at('latency').dataset, 'waits', String(waits));
}

function measureLatency() {
  setInterval(showLatency, 100);
  setInterval(() => feed.connection === 'live' && order('/lab/latency'), MEASURE_EVERY_MS);
}

// The time that its own bands need, before the two walls agree on one window.
const ownWindow = now => Shown.prototype.window.call(shown, now);
