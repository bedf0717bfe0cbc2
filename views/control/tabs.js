// The state of a tab in a frame: a pure function of the server's record of it, without a timer.
//
// A page cannot look into a frame of another host or into the browser's queues, so a queued request looks
// like a slow server. The server's record distinguishes the cases. A request in the queue waits for a thread.
// A request that the server has not seen, while six connections to its host are in use, waits in the browser.
// Tabs that other pages opened under the same number cannot be distinguished from the wall's own.
const CONNECTIONS_A_HOST = 6;
const STREAM_PATH = '/models/live_stream';

const STATE_WORDS = {
  'loading': WORDS.loading, 'waiting-for-socket': WORDS.browser, 'waiting-for-thread': WORDS.waiting,
  'streaming': WORDS.streams, 'reaped': WORDS.reaped, 'reconnecting': WORDS.reconnects, 'closed': WORDS.closed,
};

const isStreaming = story => story.state === 'streaming' && story.writes > 0;

function isAtServer(story) {
  return story.state !== 'ended';
}

// The connections that these stories hold.
function connectionsOf(stories) {
  return new Set(stories.filter(isAtServer).map(story => story.connection));
}

// isOpen    whether its frame exists
// stories   its requests since the frame was opened, the newest last
// taken     how many connections of the same host the other frames hold
// seenAt    the time of the second newest numbers: whatever ended earlier has been shown as ended
// isLoaded  whether the frame has reported that it loaded, and numbers have arrived since
// turns     how many streams it has had
//
// Returns the state, a few words for the small line, and the request that they are about.
function tabState({ isOpen, stories, taken, seenAt, isLoaded, turns = 0 }) {
  const is = (state, words, story = null) => ({ state, words, story });
  if (!isOpen) {
    return is('closed', '');
  }
  const here = stories.findLast(isAtServer);
  if (here) {
    const thread = 'thread ' + here.thread;
    if (here.state === 'waiting') {
      return is('waiting-for-thread', here.path === STREAM_PATH ? 'stream in queue' : 'in queue', here);
    }
    if (here.reaped) {
      return is('reaped', thread, here);
    }
    if (isStreaming(here)) {
      return is('streaming', thread, here);
    }
    return is('loading', thread + ', no data yet', here);
  }
  const last = stories.at(-1);
  if (last?.path === STREAM_PATH) {
    if (last.reaped && last.endedAt > seenAt) {
      // The tab keeps this state until the next numbers arrive, so that it can be seen.
      return is('reaped', 'thread ' + last.lane + ' freed', last);
    }
    if (last.gone) {
      return is('closed', 'closed by its page', last);
    }
    // It is unknown whether the browser pauses now or lacks a connection.
    const how = turns ? 'after ' + many(turns, 'turn') : last.writes ? 'its stream ended' : 'got no data';
    return is('reconnecting', how, last);
  }
  if (taken >= CONNECTIONS_A_HOST) {
    return is('waiting-for-socket', 'six connections in use', last);
  }
  if (isLoaded) {
    return is('loading', last ? 'page opened no stream' : 'not from the app', last);
  }
  return is('loading', last ? 'page answered' : 'not at the server yet', last);
}

// Whether this tab has reached a lasting state, so that the next one may be opened. Every request passes through the
// queue, so a waiting one counts only if later numbers show no idle thread.
function isSettled({ state, story }, numbers, isLoaded) {
  switch (state) {
    case 'streaming': case 'waiting-for-socket': case 'closed': case 'reaped': case 'reconnecting':
      return true;
    case 'waiting-for-thread':
      return story.queuedAt < numbers.now_us && numbers.stats.backlog > 0 && numbers.stats.pool_capacity === 0;
    default:
      return isLoaded && story !== null;
  }
}

// The outcome of a closed tab's request, in words. `writes` is the number of writes before the close, `closedAt` the
// time of the close, and `next` the request that the thread took next.
function afterClosing({ name, story, writes, closedAt, next }) {
  const since = story.writes - writes;
  const thread = 'thread ' + story.lane;
  if (story.gone) {
    const write = story.gone.write - writes;
    const taken = next ? ', and took ' + next.name + (next.waited > SHORT_US ? ', which had waited ' + seconds(next.waited) : '') : '';
    const how = story.gone.error === SEEN_CLOSED ? 'its stream saw that' : 'write ' + write + ' after the close failed';
    return name + ' closed: ' + how + ' (' + story.gone.error + '), so ' + thread + ' was freed after ' +
      seconds(story.gone.at - closedAt) + taken + '.';
  }
  if (story.reaped) {
    return name + ' closed: its stream was reaped before a write could fail.';
  }
  if (story.state === 'waiting') {
    return name + ' closed while it waited in the queue: a thread notices when it takes the request.';
  }
  if (story.left) {
    return name + ' closed while it waited: ' + thread + ' noticed, and did not serve it.';
  }
  if (story.state === 'ended' && !story.answered) {
    return name + ' closed before a thread took its request.';
  }
  if (story.state === 'ended') {
    return name + ' closed: ' + thread + ' had already answered its request.';
  }
  const count = since === 0 ? 'no write since' : since === 1 ? '1 write since, and the kernel accepted it' : since + ' writes since';
  return name + ' closed: ' + thread + ' is still held; ' + count + '.';
}
