// The steps of the guided tour. Each asks what will happen, does it on the real server, and claims
// only what it read from the server's record and numbers.
//
// A step: title(plan); question(plan), guesses(plan), and answer(plan), the index of the right guess;
// needs(numbers), why it cannot be run on this server, or ''; noFrames, if it opens none; byHand(),
// what only a person can do; run(act), which makes claims and returns the reasons. `act` is of tour.js.
const MAX_AGE_S = 4;
const TURNS = 2;
const LEAVER = 3;
const FEWEST_TABS = 9;
const STRANDED_AFTER_MS = 10e3;
const MOST_STRANDED = 4;
const MOST_ZOMBIES = 64;
const DATABASE_POOL = 5;
// A tab of the browser, with a number that no tile has.
const OWN_TAB = 21;

// How many tabs do what, by the server's number of threads.
function planFor(threads, connections) {
  const tabs = Math.min(Math.max(FEWEST_TABS, threads + 1), MOST_TABS);
  const streaming = Math.min(tabs, threads);
  const asked = Math.min(tabs, CONNECTIONS_A_HOST);
  const leaver = Math.min(LEAVER, streaming);
  const pool = Math.max(Math.min(DATABASE_POOL, connections, threads - 1), 1);
  return { threads, tabs, streaming, leaver, waiting: tabs - streaming, asked, onOneHost: Math.min(asked, threads), pool };
}

const firstInQueue = () => feed.todo().find(story => !story.isSpare);
const streamsAtServer = () => [...feed.stories.values()].filter(isStreaming);

// A page of the lab, followed on the record.
async function askForPage(act) {
  const asked = await act.order('/lab/page');
  const { page } = asked;
  return {
    name: 'page-' + page,
    story: () => feed.ofClient(asked),
    answered: () => feed.state.lab.pages.find(it => it.page === page)?.answered ?? null,
  };
}

const pageAnswer = (page, waits) => page.answered() !== null ? 'answered with ' + page.answered() : waits ? 'in the queue' : 'no answer';

async function openNine(act, plan) {
  await act.clear();
  wall.begin(plan.tabs, 'many');
  act.says('Opening tabs, one after the other.');
  await act.until(() => wall.tabs.every(tab => tab.isOpen && isSettled(tab.is, feed.state, tab.isLoaded)));
}

function nineAreThere(plan) {
  const counts = wall.counts();
  return wall.hosts === 'many' && wall.tabs.length === plan.tabs && feed.state.max_stream_age_s === null &&
    counts['streaming'] === plan.streaming && (counts['waiting-for-thread'] ?? 0) === plan.waiting;
}

const STEPS = [
  {
    title: plan => many(plan.tabs, 'tab') + ', ' + many(plan.threads, 'thread'),
    question: plan => plan.waiting ? 'Which request waits, and where?' : 'Does a request wait, and where?',
    guesses: plan => plan.waiting ? ['In the browser', 'In the kernel', 'In Puma’s queue'] : ['Yes, in Puma’s queue', 'No'],
    answer: plan => plan.waiting ? 2 : 1,
    byHand: () => ['Seven steps, about eight minutes. Step 7 needs a browser tab of its own, in a browser with a back/forward cache.'],
    async run(act, plan) {
      await openNine(act, plan);
      await act.look();
      const counts = wall.counts();
      act.equal('tabs that stream', plan.streaming, counts['streaming'] ?? 0);
      act.equal('tabs that wait in the queue', plan.waiting, counts['waiting-for-thread'] ?? 0);
      // Puma counts a waiting request as busy as well, and a browser may open a spare connection.
      const spare = () => feed.todo().filter(story => story.isSpare).length;
      const busy = () => feed.state.stats.busy_threads;
      await act.until(() => busy() === plan.tabs + spare());
      const expected = plan.tabs + (spare() ? ', and ' + many(spare(), 'spare connection') : '');
      act.claim('busy_threads', expected, busy(), busy() === plan.tabs + spare());
      act.equal('pool_capacity', plan.threads - plan.streaming, feed.state.stats.pool_capacity);
      const page = await askForPage(act);
      if (!plan.waiting) {
        await act.until(() => page.answered() !== null);
        act.claim('a plain page', 'answered with 200', pageAnswer(page), page.answered() === 200);
        return 'There is a thread for each tab, and one for the page.';
      }
      act.says('A page was asked for. Waiting for two more writes to each tab.');
      const before = new Map(streamsAtServer().map(story => [story, story.writes]));
      const more = () => [...before].filter(([story, writes]) => story.writes >= writes + 2).length;
      await act.until(() => more() >= plan.streaming);
      const waits = page.story()?.state === 'waiting';
      act.equal('tabs that got two writes in that time', plan.streaming, more());
      act.claim('a plain page, all that time', 'in the queue', pageAnswer(page, waits), waits);
      const first = firstInQueue();
      return 'Each thread runs live_stream, a loop of write and sleep. It ends only when a write fails, and no write fails while the tab stays open. ' +
        (first ? 'First in Puma’s queue, accepted and unread: ' + first.name + '.' : '');
    },
  },
  {
    title: plan => 'Tab ' + plan.leaver + ' closes',
    question: plan => plan.waiting ? 'When does tab ' + (plan.streaming + 1) + ' load?' : 'When is the thread freed?',
    guesses: () => ['At once', 'After one write', 'After two writes'],
    answer: () => 2,
    async run(act, plan) {
      if (!nineAreThere(plan)) {
        await openNine(act, plan);
      }
      const { leaver } = plan;
      const tab = wall.tabs[leaver - 1];
      const streams = () => tab.stories.findLast(isStreaming);
      if (!await act.until(() => tab.isOpen && streams())) {
        act.claim('tab ' + leaver, 'streams', STATE_WORDS[tab.state], false);
        return '';
      }
      const story = streams();
      const first = firstInQueue();
      act.says('Waiting for the next write to tab ' + leaver + '.');
      const soFar = story.writes;
      await act.until(() => story.writes > soFar);
      tab.close();
      act.says('Tab ' + leaver + ' is closed. Its thread sleeps and does not know.');
      await act.until(() => story.endedAt !== null);
      const { writes, closedAt } = tab.closing;
      const count = story.gone ? story.gone.write - writes : null;
      act.claim('the write that failed after the close', 2, count ?? 'none failed', count === 2);
      act.claim('its error', 'EPIPE', story.gone?.error ?? 'none', story.gone?.error === 'EPIPE');
      act.claim('thread ' + story.lane + ' was freed', 'after two writes', story.gone ? 'after ' + seconds(story.gone.at - closedAt) : 'not seen', Boolean(story.gone));
      if (first) {
        await act.until(() => first.startedAt !== null);
        act.claim('it took ' + first.name + ' from the queue', 'thread ' + story.lane, first.lane ? 'thread ' + first.lane : 'not taken', first.lane === story.lane);
        // Several pages are answered one after the other; the stream that is asked for first gets the thread.
        const next = () => wall.tabs.slice(plan.streaming).find(tab => tab.state === 'streaming');
        await act.until(next);
        const name = next() ? 'tab ' + next().number : 'none';
        act.claim('waited before and streams now', plan.waiting === 1 ? 'tab ' + (plan.streaming + 1) : 'one of the waiting tabs', name, name !== 'none');
      }
      return 'The kernel accepts the first write after the close, and the browser’s side answers it with a reset. Nothing wakes a loop that sleeps, so only the second write fails.';
    },
  },
  {
    title: () => 'One host: the browser’s six connections',
    question: plan => many(plan.threads, 'thread') + ', ' + many(plan.tabs, 'tab') + ' on one host. Does the server know about tab 7?',
    guesses: () => ['Yes, it is in the queue', 'Yes, it has a thread', 'No'],
    answer: () => 2,
    async run(act, plan) {
      await act.clear();
      const before = feed.seq;
      wall.begin(plan.tabs, 'one');
      act.says('Opening tabs on ' + wall.hostOf(1) + '.');
      await act.until(() => wall.tabs.every(tab => tab.isOpen && isSettled(tab.is, feed.state, tab.isLoaded)));
      await act.look();
      const counts = wall.counts();
      const pages = [...feed.stories.values()].filter(story => story.namedSeq > before && story.path === '/' && /^\d+$/.test(story.tab ?? ''));
      act.equal('pages that the server was asked for', plan.asked, feed.seq > before ? pages.length : 0);
      act.equal('tabs that stream', plan.onOneHost, counts['streaming'] ?? 0);
      act.equal('tabs in the browser', plan.tabs - plan.asked, counts['waiting-for-socket'] ?? 0);
      act.equal('idle threads', plan.threads - plan.onOneHost, feed.state.stats.pool_capacity);
      if (plan.threads > plan.onOneHost) {
        const page = await askForPage(act);
        await act.until(() => page.answered() !== null);
        act.claim('a page for another client', 'answered with 200', pageAnswer(page), page.answered() === 200);
      }
      return 'The browser opens six connections per host over HTTP/1.1, and all six to ' + wall.hostOf(1) + ' are in use. In front of the tab both limits look alike; the server’s record tells them apart.';
    },
  },
  {
    title: plan => 'Zombies hold ' + many(plan.threads, 'thread'),
    noFrames: true,
    needs: numbers => numbers.max > MOST_ZOMBIES ? 'This server has ' + numbers.max + ' threads, and the lab opens at most ' + MOST_ZOMBIES + ' zombies. Choose fewer threads.' : '',
    question: plan => many(plan.threads, 'client') + ' stay connected and never read (zombies). Which write fails first?',
    guesses: () => ['The second', 'One when a buffer is full', 'None while you watch'],
    answer: () => 2,
    async run(act, plan) {
      await act.clear();
      const zombies = await raise(act, plan);
      act.equal('threads that they hold', plan.threads, zombies().filter(isStreaming).length);
      const page = await askForPage(act);
      const before = new Map(zombies().map(story => [story, story.writes]));
      act.says('A page was asked for. Waiting for two more writes to each zombie.');
      const more = () => [...before].filter(([story, writes]) => story.writes >= writes + 2).length;
      await act.until(() => more() >= plan.threads);
      const failed = zombies().filter(story => story.gone).length;
      act.claim('writes to them that failed', '0', failed + ' of ' + zombies().reduce((all, story) => all + story.writes, 0), failed === 0 && more() === plan.threads);
      const waits = page.story()?.state === 'waiting';
      act.claim('a plain page, all that time', 'in the queue', pageAnswer(page, waits), waits);
      return 'The kernels on both sides buffer megabytes of small events. To the loop a zombie looks like a viewer, for hours. The next step frees these threads.';
    },
  },
  {
    title: () => 'A maximum age of ' + MAX_AGE_S + ' s',
    needs: numbers => STEPS[3].needs(numbers),
    question: plan => many(plan.tabs, 'tab') + ', ' + many(plan.threads, 'thread') + ', ' + MAX_AGE_S + ' s. Does a tab lose rows?',
    guesses: () => ['Yes, those between two turns', 'No, it gets them late'],
    answer: () => 1,
    async run(act, plan) {
      if (feed.state.lab.zombies.length < plan.threads || !feed.state.lab.pages.some(page => page.answered === null && !page.failed)) {
        await act.clear();
        await raise(act, plan);
      }
      const zombies = streamsAtServer().filter(story => story.tab?.startsWith('zombie-'));
      const page = await askForPage(act);
      await act.order('/max-stream-age?secs=' + MAX_AGE_S);
      act.says('The maximum age is set. The reaper checks the age of each stream.');
      await act.until(() => zombies.every(story => story.endedAt !== null) && page.answered() !== null);
      const reaped = zombies.filter(story => story.reaped).length;
      const failed = zombies.filter(story => story.gone).length;
      act.claim('zombies reaped, and failed writes', plan.threads + ' and 0', reaped + ' and ' + failed, reaped === plan.threads && failed === 0);
      act.claim('the page', 'answered with 200', pageAnswer(page), page.answered() === 200);
      await act.clear();
      await act.order('/max-stream-age?secs=' + MAX_AGE_S);
      wall.begin(plan.tabs, 'many');
      act.says('Opening tabs. Each is to have ' + TURNS + ' turns.');
      let oldest = 0;
      const hadTurns = () => wall.tabs.filter(tab => tab.turns.size >= TURNS).length;
      await act.until(() => {
        oldest = Math.max(oldest, feed.state.stats.streams.oldest_age_s ?? 0);
        return hadTurns() === plan.tabs;
      });
      act.equal('tabs that had ' + TURNS + ' turns or more', plan.tabs, hadTurns());
      // On a busy machine the reaper may be late; the age is shown, and judged with patience.
      act.claim('the oldest stream', MAX_AGE_S + ' s and one round of the reaper', oldest.toFixed(1) + ' s', oldest > 0 && oldest < MAX_AGE_S * 10);
      return 'A tab reconnects at the end of the queue with the id of its last row, and gets the rows that it missed. The price: it sees nothing between its turns. The maximum age is still set.';
    },
  },
  {
    title: () => 'The database pool',
    needs: numbers => numbers.max < 2 ? 'This step needs two threads or more.' : '',
    question: plan => many(plan.pool, 'database connection') + ', ' + many(plan.threads, 'thread') + '. What does tab ' + (plan.pool + 1) + ' get?',
    guesses: () => ['Nothing: it waits', 'An error', 'An empty 200'],
    answer: () => 2,
    async run(act, plan) {
      await act.clear();
      await act.order('/lab/database?size=' + plan.pool);
      await act.until(() => feed.state.stats.database.size === plan.pool);
      const { size, checkout_timeouts: timeouts } = feed.state.stats.database;
      act.equal('database connections', plan.pool, size);
      const frames = Math.min(size, MOST_TABS);
      wall.begin(frames, 'many');
      act.says('Opening tabs.');
      await act.until(() => (wall.counts()['streaming'] ?? 0) === frames);
      act.equal('tabs that stream', size, wall.counts()['streaming'] ?? 0);
      const before = feed.seq;
      await act.order('/lab/tabs/open?tab=' + (size + 1));
      act.says('Tab ' + (size + 1) + ' has a thread and waits for the database.');
      // No tile has this number. The answer may come before the port of the tab is known.
      const stream = () => feed.ofTab(size + 1).find(story => story.path === STREAM_PATH && story.namedSeq > before);
      await act.until(() => stream()?.endedAt);
      const story = stream();
      const took = story?.endedAt ? seconds(story.endedAt - story.startedAt) : null;
      const tab = () => feed.state.lab.tabs.find(it => it.tab === size + 1);
      act.claim('events that tab ' + (size + 1) + ' got', '0', String(tab()?.events ?? 'no such tab'), tab()?.events === 0);
      act.claim('its stream ended', 'after the checkout timeout', took ? 'after ' + took : 'not seen', took !== null);
      act.claim('tab ' + (size + 1), 'reconnects, since it got a 200', tab()?.state ?? 'no such tab', ['reconnecting', 'connecting', 'open'].includes(tab()?.state));
      act.equal('database connections in use', size, feed.state.stats.database.busy);
      const page = await askForPage(act);
      act.says('A page that needs a query was asked for.');
      await act.until(() => page.answered() !== null);
      act.claim('a page that needs a query', 'answered with 500', pageAnswer(page), page.answered() === 500);
      await act.order('/lab/tabs/close?tab=' + (size + 1));
      await act.until(() => feed.state.stats.busy_threads === size);
      act.equal('pool_capacity without tab ' + (size + 1), plan.threads - size, feed.state.stats.pool_capacity);
      const timedOut = feed.state.stats.database.checkout_timeouts - timeouts;
      act.claim('checkouts that timed out', '2 or more', String(timedOut), timedOut >= 2);
      return 'Each stream keeps the connection of its first query while it sleeps, as in Rails up to 7.1. Threads are idle, and still no page works. Reset restores the pool.';
    },
  },
  {
    title: () => 'One real tab',
    question: () => 'You leave the page by a link. Does the page that you left still hold its thread?',
    guesses: () => ['Yes, for about a minute', 'No, its page closed the stream'],
    answer: () => 1,
    byHand: () => ownTab(),
    async run(act) {
      await act.clear();
      const streamOf = number => feed.ofTab(number).findLast(story => isStreaming(story) && story.namedSeq > before);
      const before = feed.seq;
      act.says('Open the page in a tab by the link above.');
      await act.until(() => streamOf(OWN_TAB), Infinity);
      const story = streamOf(OWN_TAB);
      act.claim('tab ' + OWN_TAB, 'streams', 'on thread ' + story.lane, true);
      act.says('There, change ' + OWN_TAB + ' to ' + (OWN_TAB + 1) + ' in its address, and press Enter. Then come back.');
      const next = () => feed.ofTab(OWN_TAB + 1).findLast(it => it.namedSeq > before);
      await act.until(() => next() || story.endedAt !== null, Infinity);
      // The new page is asked for before the old one is left.
      const writes = story.writes;
      if (!next()) {
        act.claim('tab ' + OWN_TAB, 'left for tab ' + (OWN_TAB + 1), 'closed', false);
        return 'The tab was closed, which frees its thread at the second write. Run the step again, and leave the page instead.';
      }
      act.says('The page was left. Counting the writes to it.');
      await act.until(() => story.endedAt !== null || story.writes >= writes + 5);
      const count = story.gone ? story.gone.write - writes : null;
      act.claim('the write that failed after the page was left', '2, or 3 if one came while it was left', count ?? 'none of ' + (story.writes - writes) + ' failed', count !== null && count <= 3);
      await act.until(() => streamOf(OWN_TAB + 1));
      const held = [streamOf(OWN_TAB), streamOf(OWN_TAB + 1)].filter(Boolean).length;
      act.equal('threads that this tab holds now', 1, held);
      return 'A page that is left goes into the browser’s back/forward cache with its stream open, for about a minute in Chromium. The app’s page closes its stream on pagehide; without that line, each page that is left would hold a thread. Close the tab that you opened.';
    },
  },
];

function ownTab() {
  const link = element('a', '', 'Open the page in a tab');
  link.href = 'http://localhost:' + document.body.dataset.appPort + '/?tab=' + OWN_TAB;
  link.target = '_blank';
  // A page with an opener is not put into the cache.
  link.rel = 'noopener';
  return ['After “Run this step”: ', link];
}

// Opens zombies, each when the one before holds its thread. tiny_http may leave a connection unread
// forever; then another one is opened.
async function raise(act, plan) {
  const names = new Set();
  const stories = () => [...feed.stories.values()].filter(story => names.has(story.tab));
  const holding = () => stories().filter(isStreaming).length;
  act.says('Opening zombies, one after the other.');
  for (let tries = 0; holding() < plan.threads && tries < plan.threads + MOST_STRANDED; tries += 1) {
    const held = holding();
    const { zombies } = await act.order('/lab/zombies');
    names.add('zombie-' + zombies[0].zombie);
    await act.until(() => holding() > held, STRANDED_AFTER_MS);
  }
  return stories;
}
