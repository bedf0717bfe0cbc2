// What can be known of a tab in a frame, from what its server's record has of it: a
// pure function of moments, and no timer decides anything.
//
// A page cannot see into a frame of another host, nor into the browser's queues, and a
// queued request looks like a slow server from there. The server's record tells them
// apart: whoever is in todo waits for a thread; whoever is nowhere at the server while
// six connections of its host are held waits for the browser. Tabs that other pages
// opened under the same number cannot be told from the wall's own.
const CONNECTIONS_A_HOST = 6;
const STREAM_PATH = '/models/live_stream';

function isAtServer(story) {
  return story.state !== 'ended';
}

// The connections that these stories hold.
function connectionsOf(stories) {
  return new Set(stories.filter(isAtServer).map(story => story.connection));
}

// isOpen    whether its frame is there
// stories   its requests since the frame was opened, the newest last
// taken     connections of the same host that the other frames hold
// seenAt    the clock of the numbers before the newest: what ended earlier has been seen as over
// isLoaded  whether the frame said that it has loaded, and was looked at since
//
// Answers the state, in words, and the request that it is about.
function tabState({ isOpen, stories, taken, seenAt, isLoaded }) {
  const is = (state, words, story = null) => ({ state, words, story });
  if (!isOpen) {
    return is('closed', 'closed');
  }
  const here = stories.findLast(isAtServer);
  if (here) {
    const what = here.path === STREAM_PATH ? 'stream' : 'page';
    if (here.state === 'waiting') {
      return is('waiting-for-thread', what + ' in todo', here);
    }
    if (here.reaped) {
      return is('reaped', 'told to end at ' + seconds(here.reaped.age), here);
    }
    const thread = 'thread ' + here.thread;
    if (here.state === 'streaming' && here.writes > 0) {
      return is('streaming', 'on ' + thread, here);
    }
    return is('loading', thread + ' has its ' + what + ', no byte yet', here);
  }
  const last = stories.at(-1);
  if (last?.path === STREAM_PATH) {
    if (last.reaped && last.endedAt > seenAt) {
      // Its thread is back; it is left so for a look, or nobody would see why it goes.
      return is('reaped', 'told to end at ' + seconds(last.reaped.age), last);
    }
    if (last.gone) {
      return is('closed', 'closed by its page', last);
    }
    // Whether the browser pauses or lacks a socket by now is its secret.
    const how = last.reaped ? 'reaped at ' + seconds(last.reaped.age) : last.writes ? 'its stream ended' : 'ended without a byte';
    return is('reconnecting', how + (taken >= CONNECTIONS_A_HOST ? '; six sockets held' : '; will ask again'), last);
  }
  if (taken >= CONNECTIONS_A_HOST) {
    return is('waiting-for-socket', last ? 'stream: six are held' : 'six are held', last);
  }
  if (isLoaded) {
    return is('loading', last ? 'its page asks for no stream' : 'loaded, but not from the app', last);
  }
  return is('loading', last ? 'its page was answered' : 'nothing at the server', last);
}

// Whether the next tab may be opened: this one has got what it will get for now. Every
// request goes through todo; who waits there is in it at a look that found no thread free.
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

// What became of a closed tab's request, in words: the writes since are counted on the
// record. `writes` is how many there were before, `closedAt` when that was, `next` who
// was taken by its thread afterwards, if anybody.
function afterClosing({ name, story, writes, closedAt, next }) {
  const since = story.writes - writes;
  const thread = 'thread ' + story.lane;
  if (story.gone) {
    const write = story.gone.write - writes;
    const taken = next ? ', and took ' + next.name + (next.waited > SHORT_US ? ', which had waited ' + seconds(next.waited) : '') : '';
    return name + ' closed: write ' + write + ' after that failed (' + story.gone.error + '), so ' + thread + ' came back ' +
      seconds(story.gone.at - closedAt) + ' after the close' + taken + '.';
  }
  if (story.reaped) {
    return name + ' closed: its stream was told to end before a write could notice.';
  }
  if (story.state === 'waiting') {
    return name + ' closed while in todo: a thread will find that out when it takes it.';
  }
  if (story.state === 'ended') {
    return name + ' closed: ' + thread + ' was done with it.';
  }
  const count = since === 0 ? 'no write since' : since === 1 ? '1 write since, and the kernel took it' : since + ' writes since';
  return name + ' closed: ' + thread + ' still holds its ' + (story.isStream ? 'stream' : 'request') + '; ' + count + '.';
}
