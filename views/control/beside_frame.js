// The wall of a second server, in a frame of the first one's page (beside.js). It obeys messages from that page only:
// the sender must be the parent window, and its origin the control server that started this server. It answers to that
// origin.
const FRAMED_BY = document.body.dataset.framedBy;
const REPORT_EVERY_MS = 100;
const FRAMER = new RegExp('^http://(127\\.0\\.0\\.1|localhost|([\\w-]+\\.)+localhost):' + FRAMED_BY + '$');
// The only orders that are accepted: the limits, which both servers get.
const ORDERS = /^\/(max-stream-age\?secs=|lab\/threads\?count=)[\w.%]+$/;

const DEEDS = {
  begin: ({ count, hosts }) => wall.begin(countWanted(count) ?? 9, hosts === 'one' ? 'one' : 'many'),
  count: ({ count }) => {
    wall.setCount(countWanted(count) ?? 9);
    wall.keepAddress();
  },
  open: () => wall.openAll(),
  close: () => wall.closeAll(),
  tab: ({ number, isOpen }) => {
    const tab = wall.tabs[number - 1];
    if (tab && tab.isOpen !== isOpen) {
      tab.toggle();
    }
  },
  order: async ({ path }) => {
    if (ORDERS.test(path)) {
      const { ok, said } = await order(path);
      say({ refusal: ok ? null : said });
    }
  },
  look: ({ rem, scheme, span, isStacked }) => {
    const { style } = document.documentElement;
    style.setProperty('font-size', Number(rem) + 'px');
    if (style.colorScheme !== scheme) {
      style.setProperty('color-scheme', scheme);
      picture.drawing.colors.read();
    }
    set(document.body.dataset, 'stacked', String(isStacked));
    spanOfBoth = Number(span);
  },
};
let framer = null;
let spanOfBoth = null;

function say(message) {
  parent.postMessage(message, framer);
}

function report() {
  const { height } = document.querySelector('main').getBoundingClientRect();
  say({ side: sideOf(wall), span: ownWindow(shown.now()), height: Math.ceil(height), isLive: feed.connection === 'live' });
}

set(document.body.dataset, 'bare', 'true');
set(document.body.dataset, 'framed', 'true');
shown.window = now => spanOfBoth ?? ownWindow(now);
write(at('side'), plain(asked.get('fix') ?? '', LONGEST_NAME));
measureLatency();
wall.prepare(countWanted(asked.get('tabs')) ?? 9, asked.get('hosts') === 'one' ? 'one' : 'many');
if (asked.get('start') !== 'no') {
  wall.openAll();
}
if (parent !== window) {
  addEventListener('message', e => {
    if (e.source === parent && FRAMER.test(e.origin) && Object.hasOwn(DEEDS, e.data?.deed)) {
      if (framer === null) {
        framer = e.origin;
        setInterval(report, REPORT_EVERY_MS);
      }
      DEEDS[e.data.deed](e.data);
    }
  });
  // The handlers of keys are in the parent page, so keys that are pressed in this frame are sent to it.
  addEventListener('keydown', e => {
    if (e.key === 'Escape' && wall.endFull()) {
      return;
    }
    const isKept = e.ctrlKey || e.altKey || e.metaKey || e.repeat || e.target.closest?.(FIELDS + ', button, a, .lane-strip');
    if (!isKept && framer !== null) {
      say({ key: e.key });
    }
  });
}
