// Two servers side by side: /wall?beside=push. The left wall is this server's, in this page. The right one is the wall
// of a second server, in a frame (beside_frame.js): the frame has that server's record. Only a few numbers, for the
// sentence and the common axis, are sent to this page, in messages whose window and origin are checked. The controls
// act on both.
//
//   /wall?beside=push&tabs=9&hosts=many&start=no
const MAIN = document.querySelector('main');
const NAME = MAIN.dataset.fix;
// With a host for each tab, each tab would have its own worker.
const ONE_HOST = ['shared-worker'];
const SILENT_FRAME_MS = 3000;
const stacks = matchMedia('(max-width: 47.9rem)');

// The frame on the right, and the last report of its wall.
class SecondWall {
  constructor(place) {
    this.place = place;
    this.frame = null;
    this.origin = null;
    this.heard = null;
    this.heardAt = 0;
    addEventListener('message', e => {
      if (this.frame && e.source === this.frame.contentWindow && e.origin === this.origin) {
        this.hear(e.data);
      }
    });
  }

  async start() {
    this.end('The second server is starting.', false);
    const { ok, said } = await order('/lab/beside?fix=' + encodeURIComponent(NAME));
    // A fix that cannot be shown beside a plain server is always refused, so there is no button to try again.
    ok ? this.show(said) : this.end(said, !String(said).startsWith('fix: '));
    write(at('again'), 'Try again');
    return ok;
  }

  show({ control }) {
    this.origin = new URL(control).origin;
    const token = MAIN.dataset.query.slice(1);
    const fixed = new URLSearchParams({ bare: 'yes', keys: 'off', start: 'no', tabs: wall.tabs.length, hosts: hostsOnTheRight(), fix: NAME });
    this.frame = document.createElement('iframe');
    this.frame.title = 'the wall of the second server, with ' + NAME;
    this.frame.addEventListener('load', e => {
      // The server may have ended, or another one started, before the frame loaded.
      if (e.target === this.frame) {
        this.isLoaded = true;
        this.look();
        begin();
      }
    });
    this.frame.src = this.origin + '/wall?' + (token ? token + '&' : '') + fixed;
    at('no-second').hidden = true;
    this.place.append(this.frame);
  }

  // Shows why the second server is not running, in place of its wall.
  end(why, isOver = true) {
    this.frame?.remove();
    Object.assign(this, { frame: null, origin: null, heard: null, isLoaded: false, isKnown: false });
    at('no-second').hidden = false;
    write(at('why'), why);
    at('again').hidden = !isOver;
  }

  send(message) {
    if (this.isLoaded) {
      this.frame.contentWindow.postMessage(message, this.origin);
    }
  }

  hear({ side, span, height, isLive, refusal, key }) {
    if (side) {
      this.heard = { side, span: Number(span) || 0, isLive: isLive === true };
      this.heardAt = performance.now();
      this.frame.style.setProperty('--height', (Number(height) || 0) + 'px');
      showSentence();
    } else if (refusal) {
      wall.say('The second server: ' + plain(String(refusal), LONGEST_LINE));
    } else if (key && Object.hasOwn(KEYS, key)) {
      KEYS[key]();
    }
  }

  // Sends the settings that the right wall adopts from the left one.
  look() {
    const style = getComputedStyle(document.documentElement);
    this.send({
      deed: 'look', rem: parseFloat(style.fontSize), scheme: document.documentElement.style.colorScheme,
      span: shown.window(shown.now()), isStacked: stacks.matches,
    });
  }

  // The control server reports whether the second server runs. A report from before the start may arrive after it.
  follow(beside) {
    if (!this.frame || !beside) {
      return;
    }
    write(at('again'), 'Start it again');
    this.isKnown ||= beside.control === this.origin;
    if (this.isKnown && beside.control !== this.origin) {
      this.end('Another page has started a second server, with ' + beside.fix + ', in place of this one.');
    } else if (this.isKnown && beside.ended) {
      this.end('The second server has ended: ' + beside.ended + '.');
    }
  }
}

// ---- The sentence.

const plainName = MAIN.dataset.ownFix || 'Plain';

// The text that describes one side.
function sideWords({ held, waiting, first, streaming, answered, inBrowser, open, tabs }) {
  const words = [held === 0 ? 'no thread held' : many(held, 'thread') + ' held'];
  if (waiting) {
    words.push(waiting === 1 ? first.toLowerCase() + ' waits' : waiting + ' requests wait');
  } else if (answered) {
    words.push(answered + ' of ' + tabs + ' tabs are answered');
  } else if (open) {
    words.push(streaming + ' of ' + tabs + ' tabs stream');
  } else {
    words.push('no tab is open');
  }
  if (inBrowser) {
    words.push(inBrowser + ' in the browser');
  }
  return words.join(', ') + '.';
}

let spokenAt = 0;
function showSentence() {
  const { heard } = second;
  const isHeard = heard?.isLive && performance.now() - second.heardAt < SILENT_FRAME_MS;
  const parts = [[plainName, sideWords(sideOf(wall))], [NAME, isHeard ? sideWords(heard.side) : second.frame ? 'not heard from.' : 'not running.']];
  const all = parts.map(([name, words]) => name + ': ' + words).join(' ');
  if (MAIN.dataset.sentence !== all) {
    MAIN.dataset.sentence = all;
    at('sentence').replaceChildren(...parts.flatMap(([name, words], index) => [
      element(index || MAIN.dataset.ownFix ? 'code' : 'b', '', name), ': ' + words + ' ',
    ]));
  }
  // Screen readers get the sentence no more often than they can read it.
  if (performance.now() - spokenAt > SILENT_FRAME_MS) {
    spokenAt = performance.now();
    write(at('sentence-spoken'), all);
  }
}

// ---- The controls, for both.

const hostsOnTheRight = () => ONE_HOST.includes(NAME) ? 'one' : wall.hosts;

function both(onTheLeft, message) {
  onTheLeft();
  second.send(message);
}

function beginBoth(hosts) {
  const count = wall.tabs.length;
  wall.begin(count, hosts);
  second.send({ deed: 'begin', count, hosts: hostsOnTheRight() });
}

async function carryOut(path, words) {
  second.send({ deed: 'order', path });
  const { ok, said } = await order(path);
  wall.say(ok ? words(said) : said);
}

const openAll = () => both(() => wall.openAll(), { deed: 'open' });
const closeAll = () => both(() => wall.closeAll(), { deed: 'close' });
const toggleTab = number => {
  const tab = wall.tabs[number - 1];
  if (tab) {
    both(() => tab.toggle(), { deed: 'tab', number, isOpen: !tab.isOpen });
  }
};

const KEYS = wallKeys({ openAll, closeAll, toggleTab, changed: () => second.look() });

// The tabs of both walls are opened once the second wall has loaded or has failed. A second wall that is started again
// opens the tabs that are open on the left.
let hasBegun = false;
function begin() {
  if (!hasBegun && asked.get('start') !== 'no') {
    beginBoth(wall.hosts);
  } else {
    wall.tabs.filter(tab => tab.isOpen).forEach(({ number }) => second.send({ deed: 'tab', number, isOpen: true }));
  }
  hasBegun = true;
}

const second = new SecondWall(at('second'));
shown.window = now => shown.mode === 'auto' ? Math.max(ownWindow(now), second.heard?.span ?? 0) : ownWindow(now);
write(at('side'), plainName);
wall.prepare(countWanted(asked.get('tabs')) ?? 9, ONE_HOST.includes(NAME) || asked.get('hosts') === 'one' ? 'one' : 'many');
new Limits(feed, carryOut, words => wall.say(words));
onKeys(KEYS);
measureLatency();
feed.on(change => change === 'state' && second.follow(feed.state.beside));
setInterval(() => {
  second.look();
  showSentence();
}, 250);

onCount(count => both(() => wall.setCount(count), { deed: 'count', count }), openAll);
document.querySelectorAll('[name="hosts"]').forEach(radio => radio.addEventListener('change', () => beginBoth(radio.value)));
at('open-all').addEventListener('click', openAll);
at('close-all').addEventListener('click', closeAll);
at('again').addEventListener('click', () => second.start());
at('window').addEventListener('change', e => {
  setMode(e.target.value);
  second.look();
});
at('reset').addEventListener('click', () => {
  const wasThere = second.frame !== null;
  wall.closeAll();
  carryOut('/lab/reset', said => resetWords(said) + (wasThere ? ' The second server has ended.' : ''));
});

if (/^(127\.0\.0\.1|localhost|.+\.localhost)$/.test(location.hostname)) {
  second.start().then(ok => ok || begin());
} else {
  second.end('A second server can be shown on a page at http://localhost:' + (location.port || 80) + '/wall only.');
  begin();
}
