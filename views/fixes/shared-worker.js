// The one stream of all tabs. It is open while somebody listens; whoever joins is told
// what came last, and then everything.
'use strict';
const KEPT = 8;
const ports = new Set();
let kept = [];
let lastEventId = '';
let state = 'connecting';
let source = null;

function tell(what) {
  ports.forEach(port => port.postMessage(what));
}

function open() {
  source = new EventSource('/models/live_stream?tab=shared-worker' + (lastEventId && '&last_event_id=' + lastEventId));
  source.onopen = () => become('streaming');
  source.onerror = () => become(source.readyState === EventSource.CLOSED ? 'closed' : 'reconnecting');
  source.onmessage = e => {
    lastEventId = e.lastEventId;
    const models = JSON.parse(e.data);
    kept = [...kept, ...models].slice(-KEPT);
    if (models.length) {
      tell({ models });
    }
  };
}

function become(next) {
  state = next;
  tell({ state });
}

function join(port) {
  ports.add(port);
  if (!source) {
    open();
  }
  port.postMessage({ state, models: kept });
  tell({ tabs: ports.size });
}

// A tab that is left may come back out of the browser's cache.
function leave(port) {
  ports.delete(port);
  tell({ tabs: ports.size });
  if (!ports.size) {
    source?.close();
    source = null;
  }
}

onconnect = e => {
  const port = e.ports[0];
  port.onmessage = said => said.data === 'hello' ? join(port) : leave(port);
};
