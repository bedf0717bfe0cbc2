// A stream that stays open until its page closes it. An EventSource reconnects by itself when its stream
// ends, but gives up for good after an answer that is not a stream, such as a proxy's 502 while the server
// restarts. In that case a new one is opened after a pause. Each new one begins after the newest received
// event.
const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 30000;
// The connections of a stopped server stay open, and an EventSource does not detect the stop. The stream is then
// silent. A server sends a heartbeat at least every 5 s, so after this time three of them are missing.
const SILENCE_MS = 15000;
const MISSED_HEARTBEATS = 3;
const PAUSE_AFTER_SILENCE_MS = 1000;

// `newest` is the position that the page was rendered with, if any. `onstate` is called with 'connecting',
// 'open', 'reconnecting' (by the browser), 'refused' (this function reconnects after the given milliseconds)
// and 'silent' (nothing arrived for the given milliseconds, and this function reconnects). `onevent` is called
// with each message; `named` has functions for events with a name. With `hasHeartbeats`, the server is asked
// for heartbeats as events, and a silent stream is replaced. Only `push` and `partials` have such heartbeats.
function keepStream(address, { newest = '', onstate, onevent, named = {}, hasHeartbeats = false }) {
  let source = null;
  // Of the open or connecting source: the end of the permitted silence. Otherwise: the end of the pause.
  let timer = null;
  let refusals = 0;

  function open() {
    close();
    const asked = new URLSearchParams();
    if (hasHeartbeats) {
      asked.set('heartbeat', 'event');
    }
    if (newest !== '') {
      asked.set('last_event_id', newest);
    }
    const query = String(asked);
    source = new EventSource(address + (query && (address.includes('?') ? '&' : '?') + query));
    onstate('connecting');
    // Longer after each failure: the request may be queued for a thread, and a new one starts at the end.
    watch(SILENCE_MS * 2 ** Math.min(refusals, 3));
    source.onopen = () => {
      refusals = 0;
      watch();
      onstate('open');
    };
    source.onmessage = e => {
      watch();
      newest = e.lastEventId || newest;
      onevent(e);
    };
    for (const [name, hear] of Object.entries({ heartbeat: () => {}, ...named })) {
      source.addEventListener(name, e => {
        watch();
        hear(e);
      });
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) {
        // The browser first waits for the time of the server's `retry:`, which a script cannot read.
        watch(SILENCE_MS + LONGEST_PAUSE_MS);
        return onstate('reconnecting');
      }
      onstate('refused', reopenAfter(pauseAfterRefusal()));
    };
  }

  // Waits in several parts, each of which begins when the previous one has ended. After a laptop has slept, a
  // timer fires before the events that have arrived meanwhile. It ends only one part, and these events are
  // delivered during the next one, and start the wait again. Neither a single timer nor a comparison of clocks
  // distinguishes sleep from silence. In a hidden tab, the browser may delay each part by up to a minute.
  function watch(limit = SILENCE_MS, parts = MISSED_HEARTBEATS) {
    if (!hasHeartbeats) {
      return;
    }
    const next = () => parts > 1 ? watch(limit, parts - 1) : replace(limit);
    clearTimeout(timer);
    timer = setTimeout(next, limit / MISSED_HEARTBEATS);
  }

  function replace(limit) {
    const wasOpen = source.readyState === EventSource.OPEN;
    source.close();
    // Random as well: the pages of a stopped server detect its silence within a few seconds.
    reopenAfter(wasOpen ? PAUSE_AFTER_SILENCE_MS * (0.5 + Math.random()) : pauseAfterRefusal());
    onstate('silent', limit);
  }

  // Random, so that pages that were refused together do not reconnect together.
  function pauseAfterRefusal() {
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** refusals, LONGEST_PAUSE_MS) * (0.5 + Math.random());
    refusals += 1;
    return pause;
  }

  function reopenAfter(pause) {
    clearTimeout(timer);
    timer = setTimeout(open, pause);
    return pause;
  }

  function close() {
    clearTimeout(timer);
    timer = null;
    source?.close();
    source = null;
  }

  open();
  // A refused or silent stream counts as closed: it may be opened before its pause is over.
  return { open, close, isClosed: () => source === null || source.readyState === EventSource.CLOSED };
}

// The stream of a page: closed when the page is left, and opened when it returns from the back/forward cache.
function keepStreamOfPage(address, options) {
  const stream = keepStream(address, options);
  addEventListener('pagehide', stream.close);
  addEventListener('pageshow', e => e.persisted && stream.open());
  return stream;
}

function inWords(state, ms) {
  return {
    connecting: 'connects',
    open: 'streams',
    reconnecting: 'reconnects',
    refused: 'refused; reconnects in ' + Math.ceil(ms / 1000) + ' s',
    silent: 'silent for ' + Math.round(ms / 1000) + ' s; reconnects',
  }[state];
}
