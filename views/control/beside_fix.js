// The wall of a second server whose fix has a page of its own: the frames show that page, and the
// state of a tab follows from the requests that it sends.
//
//   data   the path of these requests
//   way    'listens': a request leaves the pool and stays open, and the record does not show its
//          end, so it counts only while the server has enough listeners for all such tabs;
//          'asks': each request is answered, and the page sends another; 'shares': all tabs share
//          one stream
//   keeps  whether a tab occupies one of the browser's six connections
const FIX_PAGES = {
  'short-stream': { data: '/fixes/short-stream/stream', way: 'asks' },
  'shared-worker': { data: STREAM_PATH, way: 'shares' },
  push: { data: '/fixes/push/stream', way: 'listens', keeps: true },
  partials: { data: '/fixes/partials/stream', way: 'listens', keeps: true },
  cable: { data: '/cable', way: 'listens' },
  poll: { data: '/fixes/poll/models.json', way: 'asks' },
  'long-poll': { data: '/fixes/long-poll/poll', way: 'asks', keeps: true },
};
const SHARED_NAME = 'shared-worker';

STATE_WORDS.answered = 'answered';

class FixPage {
  constructor(name) {
    Object.assign(this, FIX_PAGES[name]);
    this.path = '/fixes/' + name;
    this.keepsConnections = Boolean(this.keeps);
  }

  // The newest request for rows that got its answer, or left the pool.
  last(stories) {
    return stories.findLast(story => story.path === this.data && story.answered && story.answered.status < 400);
  }

  listens(tab) {
    return tab.isOpen && this.last(tab.stories) !== undefined;
  }

  stateOf(tab) {
    const is = tabState(tab);
    if (is.state === 'closed' || is.state === 'waiting-for-thread') {
      return is;
    }
    return (this.way === 'shares' ? this.shares(tab) : this.way === 'asks' ? this.asks(tab) : this.listening(tab)) ?? is;
  }

  listening({ stories }) {
    const story = this.last(stories);
    if (!story) {
      return null;
    }
    // The number of listeners must be more recent than the request.
    if (!(feed.state?.now_us > story.answered.at)) {
      return { state: 'loading', words: 'left the pool', story };
    }
    const wanted = wall.tabs.filter(tab => this.listens(tab) && this.last(tab.stories).answered.at < feed.state.now_us).length;
    const isThere = feed.state.stats.listeners.open >= wanted;
    return { state: isThere ? 'streaming' : 'reconnecting', words: isThere ? 'no thread' : 'its stream ended', story };
  }

  asks({ stories }) {
    const story = this.last(stories);
    return story ? { state: 'answered', words: this.keepsConnections ? 'no thread' : 'in ' + seconds(story.answered.lasted), story } : null;
  }

  shares({ stories, isLoaded }) {
    const stream = feed.ofTab(SHARED_NAME).findLast(isAtServer);
    if (!isLoaded || !stories.some(story => story.answered)) {
      return null;
    }
    if (stream?.state === 'waiting') {
      return { state: 'waiting-for-thread', words: 'shared stream', story: stream };
    }
    return stream && isStreaming(stream) ? { state: 'streaming', words: 'shares thread ' + stream.thread, story: stream } : null;
  }
}

fix = Object.hasOwn(FIX_PAGES, asked.get('fix') ?? '') ? new FixPage(asked.get('fix')) : null;
