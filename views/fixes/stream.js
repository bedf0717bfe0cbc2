// A stream that stays open until its page closes it. An EventSource reconnects by itself when its stream
// ends, but gives up for good after an answer that is not a stream, such as a proxy's 502 while the server
// restarts. In that case a new one is opened after a pause. Each new one begins after the newest received
// event.
const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 30000;

// `newest` is the position that the page was rendered with, if any. `onstate` is called with 'connecting',
// 'open', 'reconnecting' (by the browser) and 'refused' (this function reconnects after the given
// milliseconds). `onevent` is called with each message; `named` has functions for events with a name.
function keepStream(address, { newest = '', onstate, onevent, named = {} }) {
  let source = null;
  let timer = null;
  let refusals = 0;

  function open() {
    close();
    const position = newest === '' ? '' : (address.includes('?') ? '&' : '?') + 'last_event_id=' + encodeURIComponent(newest);
    source = new EventSource(address + position);
    onstate('connecting');
    source.onopen = () => {
      refusals = 0;
      onstate('open');
    };
    source.onmessage = e => {
      newest = e.lastEventId || newest;
      onevent(e);
    };
    for (const [name, hear] of Object.entries(named)) {
      source.addEventListener(name, hear);
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) {
        return onstate('reconnecting');
      }
      // Random, so that pages that were refused together do not reconnect together.
      const pause = Math.min(FIRST_PAUSE_MS * 2 ** refusals, LONGEST_PAUSE_MS) * (0.5 + Math.random());
      refusals += 1;
      timer = setTimeout(open, pause);
      onstate('refused', pause);
    };
  }

  function close() {
    clearTimeout(timer);
    timer = null;
    source?.close();
    source = null;
  }

  open();
  // A refused stream counts as closed: it may be opened before its pause is over.
  return { open, close, isClosed: () => source === null || source.readyState === EventSource.CLOSED };
}

// The stream of a page: closed when the page is left, and opened when it returns from the back/forward cache.
function keepStreamOfPage(address, options) {
  const stream = keepStream(address, options);
  addEventListener('pagehide', stream.close);
  addEventListener('pageshow', e => e.persisted && stream.open());
  return stream;
}

function inWords(state, pause) {
  return {
    connecting: 'connects',
    open: 'streams',
    reconnecting: 'reconnects',
    refused: 'refused; reconnects in ' + Math.ceil(pause / 1000) + ' s',
  }[state];
}
