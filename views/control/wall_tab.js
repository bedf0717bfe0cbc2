// One tab of the wall: a tile with the tab's number, its real page in a frame, and its state.
const STORIES_KEPT = 8;
const MOST_COUNTED = 64;

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
    this.name = element('button', 'tab-name', String(number));
    this.name.setAttribute('aria-label', 'tab ' + number + ': show its page in full');
    this.name.addEventListener('click', () => wall.showInFull(this));
    this.button = element('button', 'tab-close');
    this.button.addEventListener('click', () => this.toggle());
    this.words = element('p', 'tab-words', '\u00a0');
    this.place = element('div', 'tab-page');
    this.shown = element('span', 'tab-state', 'closed');
    this.item.append(this.name, this.button, this.words, this.place, this.shown);
    this.labelButton();
  }

  get isOpen() {
    return this.frame !== null;
  }

  get state() {
    return this.item.dataset.state;
  }

  toggle() {
    this.isOpen ? this.close() : this.wall.openNow(this);
  }

  labelButton() {
    write(this.button, this.isOpen ? '×' : '+');
    this.button.setAttribute('aria-label', (this.isOpen ? 'close' : 'open') + ' tab ' + this.number);
  }

  // Whether a request with this tab's number does not belong to its frame: it was read before the frame was opened, or
  // it is one of the lab's.
  isOfOthers(story) {
    return story.namedSeq <= this.openedSeq || this.wall.ofLab.has(story);
  }

  open() {
    this.wall.wanted.delete(this.number);
    this.wall.begun();
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
    frame.src = 'http://' + this.host + ':' + document.body.dataset.appPort + this.wall.path + '?tab=' + this.number + '&view=tile';
    this.frame = frame;
    this.place.append(frame);
    this.labelButton();
    this.follow();
  }

  // A removed frame ends immediately; the browser's back/forward cache does not keep it.
  close() {
    this.wall.wanted.delete(this.number);
    if (!this.isOpen) {
      return;
    }
    const story = this.stories.findLast(isAtServer);
    this.closing = story ? { name: 'Tab ' + this.number, story, writes: story.writes, closedAt: feed.clock() } : null;
    this.wall.lastClosed = this;
    feed.closed(story, 'tab ' + this.number + ' closed');
    this.frame.remove();
    this.frame = null;
    if (this.item.dataset.full === 'true') {
      this.wall.endFull();
    }
    this.labelButton();
    this.wall.show();
  }

  // Collects the new requests of the tab.
  follow() {
    const closing = this.closing;
    if (closing && closing.story.lastWriteAt < closing.closedAt) {
      // The write happened before the close, but was reported after it.
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

  // Whether the frame has loaded and later numbers have arrived, so that its requests are known.
  get isLoaded() {
    return this.loadedAt !== null && this.wall.looks.length > 1 && this.wall.looks[0] > this.loadedAt;
  }

  show() {
    const is = this.wall.stateOf({
      isOpen: this.isOpen, stories: this.stories, taken: this.wall.taken(this), seenAt: this.wall.looks[0], isLoaded: this.isLoaded, turns: this.turns.size,
    });
    this.is = is;
    set(this.item.dataset, 'state', is.state);
    const holds = !this.isOpen && this.closing !== null && this.closing.story.thread !== null;
    set(this.item.dataset, 'held', String(holds));
    this.tick();
    const before = this.wall.before(this);
    const waits = this.wall.wanted.has(this.number) ? 'opens after ' + (before ? 'tab ' + before.number : 'the first numbers') : this.closedWords();
    write(this.words, this.isOpen ? is.words : waits);
  }

  // The seconds of a tab that waits grow between two events.
  tick() {
    const waits = this.is.state === 'waiting-for-thread';
    write(this.shown, waits ? tenths(feed.now() - this.is.story.queuedAt) : STATE_WORDS[this.is.state]);
  }

  closedWords() {
    const { story, closedAt } = this.closing ?? {};
    if (!story || story.state === 'ended') {
      return story?.gone ? 'thread ' + story.lane + ' freed after ' + seconds(story.gone.at - closedAt) : '\u00a0';
    }
    return story.state === 'waiting' ? 'still in queue' : 'thread ' + story.thread + ' still held';
  }
}
