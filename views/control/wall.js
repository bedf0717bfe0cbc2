// The wall: frames that show the app's page, the state of each, and the picture of the threads.
//
//   /wall?tabs=9&hosts=many   one host each: the server runs out of threads
//   /wall?tabs=9&hosts=one    one host: the browser runs out of its six connections
//   start=no                  open no tab at first
//   tour=1, step=2            the same, with the tour, at this step
//   bare=yes                  no links, controls and legend
//   keys=off                  no keys
const MOST_TABS = 16;
const NUMBERS = ['No', 'One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight', 'Nine', 'Ten'];
// The wall of a second server is shown inside beside.html, which has the controls for both walls.
const HAS_CONTROLS = at('open-all') !== null;
const feed = new Feed(TOKEN);
const shown = new Shown(feed);
// Set if the address requests the tour.
let tour = null;
// On a second server: the fix whose page is in the frames (beside_fix.js).
let fix = null;

// The number of tabs in a text, or null.
function countWanted(text) {
  const count = Number(text);
  return Number.isInteger(count) && count >= 1 && count <= MOST_TABS ? count : null;
}

// The number as a word, up to ten, as at the start of a sentence.
function inWords(count) {
  return NUMBERS[count] ?? String(count);
}

// On the wall, [data-tab] selects only tiles, so the rows do not have it.
class WallPicture extends Picture {
  show(row, number) {
    super.show(row, number);
    delete row.item.dataset.tab;
  }
}

class Wall {
  constructor(list) {
    this.list = list;
    this.tabs = [];
    // The numbers of tabs that are to be opened, each as soon as the previous one has reached a lasting state.
    this.wanted = new Set();
    this.hosts = 'many';
    this.looks = [0];
    this.ofLab = new WeakSet();
    // For the line under the meter: the outcome of the tab that was closed last, or a message.
    this.lastClosed = null;
    this.message = '';
    this.warns = true;
    // Nothing has been opened yet, so the headline asks a question.
    this.asks = true;
    this.headline = new Headline(at('headline'), at('spoken'));
    this.meter = new Meter(at('meter'));
    this.shut = element('button', 'shut main', 'Back to the wall');
    this.shut.hidden = true;
    this.shut.addEventListener('click', () => this.endFull());
    document.body.append(this.shut);
    feed.on(change => this.hear(change));
    setInterval(() => this.tick(), 100);
  }

  hear(change) {
    if (change === 'state') {
      // The times of the two newest states of the server.
      this.looks = [...this.looks.slice(-1), feed.state.now_us];
      feed.state.lab.tabs.map(tab => feed.ofClient(tab)).forEach(story => story && this.ofLab.add(story));
    }
    this.tabs.forEach(tab => tab.follow());
    // The wall may no longer have this tab.
    this.lastClosed?.follow();
    this.show();
    if (feed.connection === 'live' && feed.state) {
      this.advance();
    }
  }

  show() {
    this.tabs.forEach(tab => tab.show());
    const told = this.lastClosed?.closing;
    const warning = this.warns && feed.state?.warnings?.[0];
    write(at('said'), told ? afterClosing({ ...told, next: this.nextOf(told.story) }) : this.message || (warning ? warning.text + ' ' + warning.remedy : ''));
    at('unknown-hosts').hidden = !this.tabs.some(tab => tab.isOpen && tab.host.endsWith('.localhost') && tab.isLoaded && !tab.stories.length);
    this.tick();
  }

  // The parts that change as time passes.
  tick() {
    if (!feed.state) {
      return;
    }
    const pool = poolOf(shown.record, shown.now(), shown.max, story => shown.goneAt(story));
    const counts = this.counts();
    const { length } = this.tabs;
    const { max } = feed.state;
    const question = inWords(length) + (length === 1 ? ' tab, ' : ' tabs, ') + inWords(max).toLowerCase() + (max === 1 ? ' thread.' : ' threads.');
    // If there is a thread for each tab, no tab waits, so the question is not asked.
    const asks = this.asks && length > max && !pool.held && !shown.frozen;
    set(at('headline').dataset, 'asks', String(asks));
    this.headline.show(asks ? [[question, 'plain'], ['Which tab will wait, and where?', 'waiting']]
      : headlineOf(pool, shown.frozen ? undefined : { streaming: counts['streaming'] ?? 0, inBrowser: counts['waiting-for-socket'] ?? 0 }));
    this.meter.show(pool);
    document.title = pool.held + '/' + pool.max + (pool.waiting.length ? ' +' + pool.waiting.length : '') + ' · wall';
    this.tabs.forEach(tab => tab.tick());
  }

  // The request that a closed tab's thread took next.
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

  hostOf(number) {
    // This is not the host in the address of this page: for that host, the browser counts the connections of other tabs
    // of the app as well.
    const one = location.hostname === 'localhost' ? '127.0.0.1' : 'localhost';
    return this.hosts === 'one' ? one : 'tab' + number + '.localhost';
  }

  // The page in the frames.
  get path() {
    return fix?.path ?? '/';
  }

  stateOf(tab) {
    return fix ? fix.stateOf(tab) : tabState(tab);
  }

  // The number of connections to the tab's host that the other frames hold.
  taken(tab) {
    const others = this.tabs.filter(other => other !== tab && other.isOpen && other.host === tab.host);
    if (fix?.keepsConnections) {
      return others.filter(other => fix.listens(other)).length;
    }
    return connectionsOf(others.flatMap(other => other.stories)).size;
  }

  before(tab) {
    return this.tabs[tab.number - 2];
  }

  // Opens the next wanted tab if the previous one has reached a lasting state.
  advance() {
    const next = this.tabs.find(tab => this.wanted.has(tab.number));
    const before = next && this.before(next);
    if (next && (!before?.isOpen || isSettled(before.is, feed.state, before.isLoaded))) {
      next.open();
      this.show();
    }
  }

  begun() {
    this.asks = false;
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
      tab.show();
    }
    set(this.list.dataset, 'many', String(count > 9));
    if (HAS_CONTROLS) {
      write(at('open-all'), 'Open ' + inWords(count).toLowerCase());
    }
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

  // Shows the tab's page over the whole wall. The frame is not moved in the document, since that would reload it.
  showInFull(tab) {
    if (tab.isOpen) {
      this.endFull();
      set(tab.item.dataset, 'full', 'true');
      this.shut.hidden = false;
      this.shut.focus();
    }
  }

  endFull() {
    const full = this.tabs.find(tab => tab.item.dataset.full === 'true');
    if (full) {
      set(full.item.dataset, 'full', 'false');
      this.shut.hidden = true;
      full.name.focus();
    }
    return full !== undefined;
  }

  say(words) {
    this.message = words;
    this.lastClosed = null;
    this.show();
  }

  setHosts(hosts) {
    this.hosts = hosts;
    if (HAS_CONTROLS) {
      document.querySelector('[name="hosts"][value="' + hosts + '"]').checked = true;
    }
  }

  // Replaces the tabs with `count` closed ones on these hosts.
  prepare(count, hosts) {
    this.closeAll();
    this.setHosts(hosts);
    this.setCount(count);
    if (HAS_CONTROLS) {
      at('count').value = count;
    }
    this.keepAddress();
  }

  // The same, and opens them one after another.
  begin(count, hosts) {
    this.prepare(count, hosts);
    this.openAll();
  }

  // Keeps the options in the address, so that a reload or a bookmark shows the same wall.
  keepAddress() {
    // A token is kept as it was written, since encoding it again could change it.
    const others = location.search.slice(1).split('&').filter(it => it && !/^(tabs|hosts)(=|$)/.test(it));
    history.replaceState(null, '', '?' + [...others, 'tabs=' + this.tabs.length, 'hosts=' + this.hosts].join('&'));
  }
}

showConnection(feed);
const wall = new Wall(at('frames'));
const picture = new WallPicture(at('picture'), shown);
