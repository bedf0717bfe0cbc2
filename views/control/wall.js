// The wall: frames that show the app's page, what is known of each, and the lanes.
//
//   /wall?tabs=9&hosts=many   a host each: the server's threads run out
//   /wall?tabs=9&hosts=one    one host: the browser's six connections run out
const MOST_TABS = 16;
const STORIES_KEPT = 8;
const MOST_COUNTED = 64;
const at = id => document.getElementById(id);
const feed = new Feed(TOKEN);

const STATE_WORDS = {
  'loading': 'loading', 'waiting-for-socket': 'waits for a socket', 'waiting-for-thread': 'waits for a thread',
  'streaming': 'streams', 'reaped': 'reaped', 'reconnecting': 'coming back', 'closed': 'closed',
};

function write(place, text) {
  if (place.textContent !== text) {
    place.textContent = text;
  }
}

// Here [data-tab] is a tab's frame, and only that.
class WallLanes extends Lanes {
  show(row, number) {
    super.show(row, number);
    delete row.item.dataset.tab;
  }
}

class WallTab {
  constructor(wall, number) {
    this.wall = wall;
    this.number = number;
    this.frame = null;
    this.loadedAt = null;
    this.stories = [];
    this.openedSeq = 0;
    this.turns = new Set();
    this.closing = null;
    this.item = element('li', 'tab');
    this.item.dataset.tab = number;
    this.item.dataset.state = 'closed';
    const head = element('div', 'tab-head');
    this.shown = element('span', 'tab-state', 'closed');
    this.words = element('p', 'tab-words', '\u00a0');
    this.button = element('button', 'tab-button');
    this.button.addEventListener('click', () => this.isOpen ? this.close() : wall.openNow(this));
    this.place = element('div', 'tab-page');
    head.append(element('strong', 'tab-name', 'tab ' + number), this.shown, this.button, this.words);
    this.item.append(head, this.place);
    this.labelButton();
  }

  get isOpen() {
    return this.frame !== null;
  }

  get state() {
    return this.item.dataset.state;
  }

  labelButton() {
    write(this.button, this.isOpen ? '×' : 'open');
    this.button.setAttribute('aria-label', (this.isOpen ? 'close' : 'open') + ' tab ' + this.number);
  }

  // A request of this number that is not its frame's: it was read before the frame was
  // opened, or it is the lab's.
  isOfOthers(story) {
    return story.namedSeq <= this.openedSeq || this.wall.ofLab.has(story);
  }

  open() {
    this.wall.wanted.delete(this.number);
    this.openedSeq = feed.seq;
    this.stories = [];
    this.turns = new Set();
    this.closing = null;
    this.loadedAt = null;
    this.host = this.wall.hostOf(this.number);
    const frame = document.createElement('iframe');
    frame.title = 'tab ' + this.number + ': the app’s page';
    frame.addEventListener('load', () => {
      this.loadedAt = feed.clock();
    });
    frame.src = 'http://' + this.host + ':' + document.body.dataset.appPort + '/?tab=' + this.number;
    this.frame = frame;
    this.place.append(frame);
    this.labelButton();
    this.follow();
  }

  // A frame that is taken out of the page is over at once; it is not kept for a way back.
  close() {
    this.wall.wanted.delete(this.number);
    if (!this.isOpen) {
      return;
    }
    const story = this.stories.findLast(isAtServer);
    this.closing = story ? { name: 'Tab ' + this.number, story, writes: story.writes, closedAt: feed.clock() } : null;
    this.wall.lastClosed = this;
    this.frame.remove();
    this.frame = null;
    this.labelButton();
    this.wall.show();
  }

  // What is newly known of its requests.
  follow() {
    const closing = this.closing;
    if (closing && closing.story.lastWriteAt < closing.closedAt) {
      // Written before the close, and told of after it.
      closing.writes = closing.story.writes;
    }
    if (!this.isOpen) {
      return;
    }
    this.stories = this.stories.filter(story => !this.isOfOthers(story));
    for (const story of feed.ofTab(this.number)) {
      if (!this.stories.includes(story) && !this.isOfOthers(story)) {
        this.stories.push(story);
      }
      if (story.isStream && story.writes > 0 && this.stories.includes(story) && this.turns.size < MOST_COUNTED) {
        this.turns.add(story.request);
      }
    }
    if (this.stories.length > STORIES_KEPT) {
      this.stories.splice(0, this.stories.length - STORIES_KEPT);
    }
  }

  // Loaded, and numbers taken later have come, so that what it asked for is known.
  get isLoaded() {
    return this.loadedAt !== null && this.wall.looks.length > 1 && this.wall.looks[0] > this.loadedAt;
  }

  show() {
    const is = tabState({
      isOpen: this.isOpen, stories: this.stories, taken: this.wall.taken(this), seenAt: this.wall.looks[0], isLoaded: this.isLoaded,
    });
    this.is = is;
    set(this.item.dataset, 'state', is.state);
    write(this.shown, STATE_WORDS[is.state]);
    const before = this.wall.before(this);
    write(this.words, this.isOpen ? is.words : this.wall.wanted.has(this.number) ? 'opens after ' + (before ? 'tab ' + before.number : 'the first numbers') : this.closedWords());
    this.words.title = this.words.textContent;
  }

  closedWords() {
    const { story, writes } = this.closing ?? {};
    if (!story || story.state === 'ended') {
      return story?.gone ? 'thread ' + story.lane + ' is back: write ' + (story.gone.write - writes) + ' failed' : '\u00a0';
    }
    const since = story.writes - writes;
    return story.state === 'waiting' ? 'still in todo' : 'thread ' + story.thread + ' goes on: ' + since + (since === 1 ? ' write' : ' writes') + ' since';
  }
}

class Wall {
  constructor(list) {
    this.list = list;
    this.tabs = [];
    // Those that are to be opened when the one before has got what it gets.
    this.wanted = new Set();
    this.hosts = 'many';
    this.looks = [0];
    this.ofLab = new WeakSet();
    // What the line under the headline says: the newest of a closed frame's fate and a message.
    this.lastClosed = null;
    this.message = '';
    this.headlineAt = -Infinity;
    feed.on(change => this.hear(change));
  }

  hear(change) {
    if (change === 'state') {
      // The newest two: what the second of them has not was not there at the first.
      this.looks = [...this.looks.slice(-1), feed.state.now_us];
      feed.state.lab.tabs.map(tab => feed.ofClient(tab)).forEach(story => story && this.ofLab.add(story));
    }
    this.tabs.forEach(tab => tab.follow());
    this.show();
    if (feed.connection === 'live' && feed.state) {
      this.advance();
    }
    this.showHeadline();
  }

  show() {
    this.tabs.forEach(tab => tab.show());
    // Without a frame there is more room for the lanes.
    set(this.list.dataset, 'empty', String(!this.wanted.size && !this.tabs.some(tab => tab.isOpen)));
    const told = this.lastClosed?.closing;
    write(at('said'), told ? afterClosing({ ...told, next: this.nextOf(told.story) }) : this.message);
    at('unknown-hosts').hidden = !this.tabs.some(tab => tab.isOpen && tab.host.endsWith('.localhost') && tab.isLoaded && !tab.stories.length);
    const age = feed.state?.max_stream_age_s;
    write(at('in-force'), feed.state ? 'age ' + (age === null ? 'off' : age + ' s') + ', ' + feed.state.max + ' threads' : '');
  }

  // Whom a closed tab's thread served next.
  nextOf(story) {
    if (!story.gone) {
      return null;
    }
    const later = [...feed.stories.values()].filter(next => next.lane === story.lane && next.startedAt >= story.gone.at && next.target !== null);
    return later.reduce((first, next) => !first || next.startedAt < first.startedAt ? next : first, null);
  }

  counts() {
    const counts = {};
    for (const tab of this.tabs) {
      counts[tab.state] = (counts[tab.state] ?? 0) + 1;
    }
    return counts;
  }

  // Read aloud, so no oftener than once a second, and not in the middle of a change.
  showHeadline() {
    const counts = this.counts();
    const one = { 'streaming': 'streams', 'waiting-for-thread': 'waits for a thread', 'waiting-for-socket': 'waits for one of the browser’s six sockets', 'loading': 'loads', 'reaped': 'is reaped', 'reconnecting': 'is coming back' };
    const many = { 'streaming': 'stream', 'waiting-for-thread': 'wait for a thread', 'waiting-for-socket': 'wait for one of the browser’s six sockets', 'loading': 'load', 'reaped': 'are reaped', 'reconnecting': 'are coming back' };
    const states = Object.keys(one).filter(state => counts[state]);
    const parts = states.map(state => counts[state] + ' ' + (counts[state] === 1 ? one : many)[state]);
    const words = this.tabs.length === 1 ? 'The one tab ' + (one[states[0]] ?? 'is closed') + '.'
      : parts.length ? 'Of ' + this.tabs.length + ' tabs ' + parts.join(', ') + '.' : 'All ' + this.tabs.length + ' tabs are closed.';
    if (at('headline').textContent !== words && performance.now() - this.headlineAt > 1000) {
      this.headlineAt = performance.now();
      at('headline').textContent = words;
    }
  }

  hostOf(number) {
    // Not the name that this page has: a browser keeps the six of a page's own site apart
    // from those in frames of another, and tabs of the app elsewhere would count with them.
    const one = location.hostname === 'localhost' ? '127.0.0.1' : 'localhost';
    return this.hosts === 'one' ? one : 'tab' + number + '.localhost';
  }

  // How many connections of its host the other frames hold.
  taken(tab) {
    const others = this.tabs.filter(other => other !== tab && other.isOpen && other.host === tab.host);
    return connectionsOf(others.flatMap(other => other.stories)).size;
  }

  before(tab) {
    return this.tabs[tab.number - 2];
  }

  // Opens whoever is next. One before it that nobody wants open is none to wait for.
  advance() {
    const next = this.tabs.find(tab => this.wanted.has(tab.number));
    const before = next && this.before(next);
    if (next && (!before?.isOpen || isSettled(before.is, feed.state, before.isLoaded))) {
      next.open();
      this.show();
    }
  }

  setCount(count) {
    while (this.tabs.length > count) {
      const tab = this.tabs.pop();
      tab.close();
      tab.item.remove();
    }
    while (this.tabs.length < count) {
      const tab = new WallTab(this, this.tabs.length + 1);
      this.tabs.push(tab);
      this.list.append(tab.item);
    }
    const columns = count > 9 ? 4 : 3;
    set(this.list.dataset, 'many', String(columns === 4));
    this.list.style.setProperty('--rows', Math.ceil(count / columns));
  }

  openAll() {
    this.tabs.filter(tab => !tab.isOpen).forEach(tab => this.wanted.add(tab.number));
    this.show();
  }

  openNow(tab) {
    tab.open();
    this.show();
  }

  closeAll() {
    this.wanted.clear();
    this.tabs.forEach(tab => tab.close());
    this.say('');
  }

  say(words) {
    this.message = words;
    this.lastClosed = null;
    this.show();
  }

  setHosts(hosts) {
    this.hosts = hosts;
    document.querySelector('[name="hosts"][value="' + hosts + '"]').checked = true;
  }

  // As many tabs, all on these hosts, opened anew one after the other.
  begin(count, hosts) {
    this.closeAll();
    this.setHosts(hosts);
    this.setCount(count);
    at('count').value = count;
    this.openAll();
    this.keepAddress();
  }

  // A reload, or a bookmark, is to show the same.
  keepAddress() {
    // A token stays as it was written: written anew it may be another one.
    const others = location.search.slice(1).split('&').filter(it => it && !/^(tabs|hosts)(=|$)/.test(it));
    history.replaceState(null, '', '?' + [...others, 'tabs=' + this.tabs.length, 'hosts=' + this.hosts].join('&'));
  }
}

showConnection(feed);
const wall = new Wall(at('frames'));
new WallLanes(at('lanes'), feed);
new Todo(at('todo'), feed);

// ---- The bar.

async function carryOut(path, words) {
  const { ok, status, said } = await order(path);
  const refusal = status === 403 ? refusedWords(said) : said.error ?? said;
  wall.say(ok ? words(said) : String(refusal));
}

function countWanted(text) {
  const count = Number(text);
  return Number.isInteger(count) && count >= 1 && count <= MOST_TABS ? count : null;
}

at('count').addEventListener('change', e => {
  const count = countWanted(e.target.value);
  if (count === null) {
    wall.say('Tabs: a number from 1 to ' + MOST_TABS + ' is wanted, not ' + (e.target.value || 'nothing') + '.');
    e.target.value = wall.tabs.length;
    return;
  }
  const more = wall.tabs.some(tab => tab.isOpen || wall.wanted.has(tab.number));
  wall.setCount(count);
  if (more) {
    wall.openAll();
  }
  wall.keepAddress();
});
document.querySelectorAll('[name="hosts"]').forEach(radio => radio.addEventListener('change', () => wall.begin(wall.tabs.length, radio.value)));
at('use-one').addEventListener('click', () => wall.begin(wall.tabs.length, 'one'));
at('open-all').addEventListener('click', () => wall.openAll());
at('close-all').addEventListener('click', () => wall.closeAll());
at('age-off').addEventListener('click', () => carryOut('/max-stream-age?secs=off', () => ageWords(null)));
onSubmit(at('age'), 'secs', wrongAge, words => wall.say(words), secs => carryOut('/max-stream-age?secs=' + secs, said => ageWords(said.max_stream_age_s)));
at('rails').addEventListener('click', () => carryOut('/lab/threads?count=3', said => said.max + ' threads, as in a new Rails app: the fourth tab waits. A thread too many leaves when it is idle.'));
at('reset').addEventListener('click', () => {
  tour.stop();
  wall.closeAll();
  carryOut('/lab/reset', said => 'All is closed; ' + said.max + ' threads, maximum age ' + (said.max_stream_age_s === null ? 'off' : said.max_stream_age_s + ' s') + '. The threads of closed tabs are back at the second write.');
});

// ---- What the address asks for.

const asked = new URLSearchParams(location.search);
const tabsAsked = asked.get('tabs') ?? '9';
const hostsAsked = asked.get('hosts') ?? 'many';
wall.begin(countWanted(tabsAsked) ?? 9, hostsAsked === 'one' ? 'one' : 'many');
if (countWanted(tabsAsked) === null) {
  wall.say('tabs: a number from 1 to ' + MOST_TABS + ' is wanted, not ' + plain(tabsAsked, LONGEST_NAME) + '; here are 9.');
} else if (hostsAsked !== 'one' && hostsAsked !== 'many') {
  wall.say('hosts: many or one is wanted, not ' + plain(hostsAsked, LONGEST_NAME) + '; here are many.');
}
