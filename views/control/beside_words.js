// For each of two walls side by side: the numbers that the wall reports about itself, and the latency of a page.
//
// The latency is that of a request that the control server sends to its own app, once per second unless one
// is under way. The record contains the times at which it was queued and answered.
const MEASURE_EVERY_MS = 1000;
const LONGEST_PART = 36;

const asked = new URLSearchParams(location.search);
// The headline asks no question. The control server's warnings are off, since they count the measuring request.
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
  // Each part of the headline is on its own line.
  set(at('headline').dataset, 'long', String([...at('headline').children].some(part => part.textContent.length > LONGEST_PART)));
  const [words, waits] = latencyOf(feed, feed.now()) ?? ['page: not measured yet', false];
  write(at('latency'), words);
  set(at('latency').dataset, 'waits', String(waits));
}

function measureLatency() {
  setInterval(showLatency, 100);
  setInterval(() => feed.connection === 'live' && order('/lab/latency'), MEASURE_EVERY_MS);
}

// The window that this wall alone needs for its bands. The two walls then agree on a common one.
const ownWindow = now => Shown.prototype.window.call(shown, now);
