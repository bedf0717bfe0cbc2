// The one stream of all tabs. It is open while a tab listens. A tab that joins gets the newest rows, and then
// every new one.
'use strict';
{% include "fixes/stream.js" %}
const KEPT = 8;
const ports = new Set();
let kept = [];
let state = 'connecting';
let stream = null;

function tell(what) {
  ports.forEach(port => port.postMessage(what));
}

function open() {
  if (stream) {
    return stream.open();
  }
  stream = keepStream('/models/live_stream?tab=shared-worker', {
    onstate: become,
    onevent: e => {
      const models = JSON.parse(e.data);
      kept = [...kept, ...models].slice(-KEPT);
      if (models.length) {
        tell({ models });
      }
    },
  });
}

function become(next) {
  state = next;
  tell({ state });
}

function join(port) {
  ports.add(port);
  if (!stream || stream.isClosed()) {
    open();
  }
  port.postMessage({ state, models: kept });
  tell({ tabs: ports.size });
}

// A tab that leaves may return from the browser's back/forward cache.
function leave(port) {
  ports.delete(port);
  tell({ tabs: ports.size });
  if (!ports.size) {
    stream.close();
  }
}

onconnect = e => {
  const port = e.ports[0];
  port.onmessage = said => said.data === 'hello' ? join(port) : leave(port);
};
