// The state of a tab in a frame, from the server's record of it: a pure function of moments. No
// timer decides anything.
//
// A page cannot look into a frame of another host, nor into the browser's queues, and from there a
// queued request looks like a slow server. The server's record tells the cases apart: a request in
// the queue waits for a thread; one that the server has not seen, while six connections of its host
// are in use, waits in the browser. Tabs that other pages opened under the same number cannot be
// told from the wall's own.
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
// seenAt    the clock of the numbers before the newest: what ended earlier has been shown as over
// isLoaded  whether the frame has reported that it loaded, and numbers have come since
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
    return is('loading', thread + ', no byte yet', here);
  }
  const last = stories.at(-1);
  if (last?.path === STREAM_PATH) {
    if (last.reaped && last.endedAt > seenAt) {
      // It stays so until the next numbers, so that it can be seen.
      return is('reaped', 'thread ' + last.lane + ' freed', last);
    }
    if (last.gone) {
      return is('closed', 'closed by its page', last);
    }
    // Whether the browser pauses or lacks a connection now is not known.
    const how = turns ? 'after ' + many(turns, 'turn') : last.writes ? 'its stream ended' : 'got no byte';
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

// Whether the next tab may be opened: this one has reached a state that lasts. Every request goes
// through the queue, so a waiting one counts only if numbers taken since show no free thread.
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

// The outcome of a closed tab's request, in words. `writes` is how many there were before the
// close, `closedAt` when that was, and `next` the request that its thread took afterwards.
function afterClosing({ name, story, writes, closedAt, next }) {
  const since = story.writes - writes;
  const thread = 'thread ' + story.lane;
  if (story.gone) {
    const write = story.gone.write - writes;
    const taken = next ? ', and took ' + next.name + (next.waited > SHORT_US ? ', which had waited ' + seconds(next.waited) : '') : '';
    const how = story.gone.error === SEEN_CLOSED ? 'its stream saw that' : 'write ' + write + ' after that failed';
    return name + ' closed: ' + how + ' (' + story.gone.error + '), so ' + thread + ' was freed after ' +
      seconds(story.gone.at - closedAt) + taken + '.';
  }
  if (story.reaped) {
    return name + ' closed: its stream was reaped before a write could fail.';
  }
  if (story.state === 'waiting') {
    return name + ' closed while it waited in the queue: a thread finds that out when it takes it.';
  }
  if (story.left) {
    return name + ' closed while it waited: ' + thread + ' found that out, and did not serve it.';
  }
  if (story.state === 'ended' && !story.answered) {
    return name + ' closed before a thread took it.';
  }
  if (story.state === 'ended') {
    return name + ' closed: ' + thread + ' had answered it.';
  }
  const count = since === 0 ? 'no write since' : since === 1 ? '1 write since, and the kernel accepted it' : since + ' writes since';
  return name + ' closed: ' + thread + ' is still held; ' + count + '.';
}
