// The steps of the guided tour. Each says what to expect before it is done, does it for
// real, and claims only what it read off the server's record and numbers.
//
// A step: title; expects(plan); needs(numbers), why it cannot be done on this server, or
// ''; command, how to start one on which it can; byHand(), a link for what only a person can do; run(act), which may make claims and
// answers why it was so. `act` is of tour.js.
const MAX_AGE_S = 4;
const TURNS = 2;
const LEAVER = 3;
const FEWEST_TABS = 9;
const STRANDED_AFTER_MS = 10e3;
const MOST_STRANDED = 4;
// A tab of the browser's own, numbered beyond the wall's.
const OWN_TAB = 21;

// What is to become of the tabs, by the server's threads.
function planFor(threads) {
  const tabs = Math.min(Math.max(FEWEST_TABS, threads + 1), MOST_TABS);
  const streaming = Math.min(tabs, threads);
  const asked = Math.min(tabs, CONNECTIONS_A_HOST);
  const leaver = Math.min(LEAVER, streaming);
  return { threads, tabs, streaming, leaver, waiting: tabs - streaming, asked, onOneHost: Math.min(asked, threads) };
}

function many(count, word) {
  return count + ' ' + word + (count === 1 ? '' : 's');
}

const isStreaming = story => story.state === 'streaming' && story.writes > 0;
const firstInTodo = () => feed.todo().find(story => story.target !== null);
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

const pageAnswer = (page, held) => page.answered() !== null ? 'answered with ' + page.answered() : held ? 'in todo' : 'no answer';

async function openNine(act, plan) {
  await act.clear();
  wall.begin(plan.tabs, 'many');
  act.says('Frames are opened, one after the other.');
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
    expects: plan => plan.streaming + ' of ' + plan.tabs + ' tabs stream, and ' + plan.waiting + (plan.waiting === 1 ? ' waits' : ' wait') +
      ' in todo: a stream holds its thread until it ends. A plain page ' + (plan.waiting ? 'waits behind them.' : 'is answered.'),
    async run(act, plan) {
      await openNine(act, plan);
      await act.look();
      const counts = wall.counts();
      act.equal('tabs that stream', plan.streaming, counts['streaming'] ?? 0);
      act.equal('tabs that wait for a thread', plan.waiting, counts['waiting-for-thread'] ?? 0);
      // Puma counts what waits as busy, too: and a browser may open a connection in advance.
      const empty = () => feed.todo().filter(story => story.target === null).length;
      const busy = () => feed.state.stats.busy_threads;
      await act.until(() => busy() === plan.tabs + empty());
      const expected = plan.tabs + (empty() ? ', and ' + many(empty(), 'connection') + ' without a request' : '');
      act.claim('busy_threads in /stats', expected, busy(), busy() === plan.tabs + empty());
      act.equal('pool_capacity in /stats', plan.threads - plan.streaming, feed.state.stats.pool_capacity);
      const page = await askForPage(act);
      if (!plan.waiting) {
        await act.until(() => page.answered() !== null);
        act.claim('a plain page', 'answered with 200', pageAnswer(page), page.answered() === 200);
        return 'There was a thread for everybody.';
      }
      act.says('A page was asked for; two more writes to each tab are awaited.');
      const before = new Map(streamsAtServer().map(story => [story, story.writes]));
      const more = () => [...before].filter(([story, writes]) => story.writes >= writes + 2).length;
      await act.until(() => more() >= plan.streaming);
      const waits = page.story()?.state === 'waiting';
      act.equal('tabs that got two writes meanwhile', plan.streaming, more());
      act.claim('a plain page, all that time', 'in todo', pageAnswer(page, waits), waits);
      const first = firstInTodo();
      return 'Each stream is a loop of write and sleep that ends only when a write fails, and none fails while its tab stays. ' +
        (first ? 'First in todo: ' + first.name + '.' : '');
    },
  },
  {
    title: () => 'One tab leaves',
    expects: plan => 'Tab ' + plan.leaver + ' is closed right after a write. Its thread comes back at the second write after that, by EPIPE; ' +
      (plan.waiting ? 'who is first in todo gets it.' : 'nobody waits for it.'),
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
      const first = firstInTodo();
      act.says('The next write to tab ' + leaver + ' is awaited.');
      const so_far = story.writes;
      await act.until(() => story.writes > so_far);
      tab.close();
      act.says('Tab ' + leaver + ' is closed; its thread sleeps, and does not know.');
      await act.until(() => story.endedAt !== null);
      const { writes, closedAt } = tab.closing;
      const count = story.gone ? story.gone.write - writes : null;
      act.claim('writes after the close until one failed', 2, count ?? 'none failed', count === 2);
      act.claim('what that write met', 'EPIPE', story.gone?.error ?? 'nothing', story.gone?.error === 'EPIPE');
      act.claim('thread ' + story.lane + ' came back', 'after two writes', story.gone ? 'after ' + seconds(story.gone.at - closedAt) : 'not seen', Boolean(story.gone));
      if (first) {
        await act.until(() => first.startedAt !== null);
        act.claim('who took ' + first.name + ' out of todo', 'thread ' + story.lane, first.lane ? 'thread ' + first.lane : 'nobody', first.lane === story.lane);
        // Of several the pages are answered one after the other; whose stream is asked for first has the thread.
        const next = () => wall.tabs.slice(plan.streaming).find(tab => tab.state === 'streaming');
        await act.until(next);
        const name = next() ? 'tab ' + next().number : 'nobody';
        act.claim('who waited and streams now', plan.waiting === 1 ? 'tab ' + (plan.streaming + 1) : 'one of them', name, name !== 'nobody');
      }
      return 'The kernel took the first write after the close, and the browser’s side answered it with a reset; nothing wakes a loop that sleeps. Only the second write fails.';
    },
  },
  {
    title: () => 'The browser’s own six',
    expects: plan => 'All on one host: the browser opens six connections to it, so the server hears of ' + plan.asked + ' tabs and holds ' +
      many(plan.onOneHost, 'stream') + ', ' + many(plan.threads - plan.onOneHost, 'thread') + ' idle. The other ' + (plan.tabs - plan.asked) + ' wait for a socket, which looks just the same.',
    async run(act, plan) {
      await act.clear();
      const before = feed.seq;
      wall.begin(plan.tabs, 'one');
      act.says('Frames are opened on ' + wall.hostOf(1) + '.');
      await act.until(() => wall.tabs.every(tab => tab.isOpen && isSettled(tab.is, feed.state, tab.isLoaded)));
      await act.look();
      const counts = wall.counts();
      const pages = [...feed.stories.values()].filter(story => story.namedSeq > before && story.path === '/' && /^\d+$/.test(story.tab ?? ''));
      act.equal('pages that the server was asked for', plan.asked, feed.seq > before ? pages.length : 0);
      act.equal('tabs that stream', plan.onOneHost, counts['streaming'] ?? 0);
      act.equal('tabs that wait for a socket', plan.tabs - plan.asked, counts['waiting-for-socket'] ?? 0);
      act.equal('threads idle meanwhile', plan.threads - plan.onOneHost, feed.state.stats.pool_capacity);
      if (plan.threads > plan.onOneHost) {
        const page = await askForPage(act);
        await act.until(() => page.answered() !== null);
        act.claim('a page for whoever is not this browser', 'answered with 200', pageAnswer(page), page.answered() === 200);
      }
      return 'The browser keeps the other requests to itself, for its six connections to ' + wall.hostOf(1) + ' are in use. To the person in front of the tab both limits look alike; the server’s record tells them apart.';
    },
  },
  {
    title: plan => 'Zombies: ' + many(plan.threads, 'thread') + ' held by nobody',
    needs: numbers => numbers.max > 64 ? 'There are ' + numbers.max + ' threads, and the lab leaves 64 zombies at most. Ask for fewer threads.' : '',
    expects: plan => many(plan.threads, 'client') + ' ask for a stream, stay connected and never read. Every write to them succeeds, so they hold all ' +
      many(plan.threads, 'thread') + ', and a page waits.',
    async run(act, plan) {
      await act.clear();
      const zombies = await raise(act, plan);
      act.equal('threads that they hold', plan.threads, zombies().filter(isStreaming).length);
      const page = await askForPage(act);
      const before = new Map(zombies().map(story => [story, story.writes]));
      act.says('A page was asked for; two more writes to each zombie are awaited.');
      const more = () => [...before].filter(([story, writes]) => story.writes >= writes + 2).length;
      await act.until(() => more() >= plan.threads);
      const failed = zombies().filter(story => story.gone).length;
      act.claim('writes to them that failed', '0', failed + ' of ' + zombies().reduce((all, story) => all + story.writes, 0), failed === 0 && more() === plan.threads);
      const waits = page.story()?.state === 'waiting';
      act.claim('a plain page, all that time', 'in todo', pageAnswer(page, waits), waits);
      return 'Both kernels have room for megabytes of what nobody reads. To the loop a zombie looks like an audience. The next step frees these threads.';
    },
  },
  {
    title: () => 'The reaper: no stream older than ' + MAX_AGE_S + ' s',
    needs: numbers => STEPS[3].needs(numbers),
    expects: plan => 'With a maximum age of ' + MAX_AGE_S + ' s the zombies lose their threads, and the page is answered. Then ' + many(plan.tabs, 'tab') + ' on ' +
      many(plan.threads, 'thread') + ' take turns: each streams ' + TURNS + ' times or more.',
    async run(act, plan) {
      if (feed.state.lab.zombies.length < plan.threads || !feed.state.lab.pages.some(page => page.answered === null && !page.failed)) {
        await act.clear();
        await raise(act, plan);
      }
      const zombies = streamsAtServer().filter(story => story.tab?.startsWith('zombie-'));
      const page = await askForPage(act);
      await act.order('/max-stream-age?secs=' + MAX_AGE_S);
      act.says('The maximum age is set; the reaper looks at each stream’s age.');
      await act.until(() => zombies.every(story => story.endedAt !== null) && page.answered() !== null);
      const reaped = zombies.filter(story => story.reaped).length;
      const failed = zombies.filter(story => story.gone).length;
      act.claim('zombies that the reaper ended, and a failed write', plan.threads + ' and 0', reaped + ' and ' + failed, reaped === plan.threads && failed === 0);
      act.claim('the page', 'answered with 200', pageAnswer(page), page.answered() === 200);
      await act.clear();
      await act.order('/max-stream-age?secs=' + MAX_AGE_S);
      wall.begin(plan.tabs, 'many');
      act.says('Frames are opened; each is to have ' + TURNS + ' turns.');
      let oldest = 0;
      const hadTurns = () => wall.tabs.filter(tab => tab.turns.size >= TURNS).length;
      await act.until(() => {
        oldest = Math.max(oldest, feed.state.stats.streams.oldest_age_s ?? 0);
        return hadTurns() === plan.tabs;
      });
      act.equal('tabs that had ' + TURNS + ' turns or more', plan.tabs, hadTurns());
      // On a busy machine a round of the reaper comes late; it is shown, and judged with patience.
      act.claim('the oldest stream that was seen', MAX_AGE_S + ' s, and a round of the reaper', oldest.toFixed(1) + ' s', oldest > 0 && oldest < MAX_AGE_S * 10);
      return 'The reaper does not ask whether anybody reads. The tab comes back after its pause, at the end of the queue, and says what it had last, so that it misses nothing. The age is still set: watch them, or go on.';
    },
  },
  {
    title: () => 'The pool behind the pool',
    needs: numbers => numbers.stats.database.size >= numbers.max
      ? 'This server has ' + many(numbers.stats.database.size, 'database connection') + ' for ' + many(numbers.max, 'thread') +
        ', so nobody waits for one. To see this step, start it as ActiveRecord is by default:' : '',
    command: 'ninetabs serve --db-pool 5',
    expects: (plan, numbers) => {
      const size = numbers?.stats.database.size ?? 5;
      return size >= plan.threads ? 'With five database connections the sixth stream is answered with nothing, while Puma’s pool has threads to spare.'
        : many(size, 'tab') + ' stream and keep their database connections. The next stream is answered after a while, without an event; a page that needs a query gets 500; and pool_capacity says ' + (plan.threads - size) + '.';
    },
    async run(act, plan) {
      await act.clear();
      const size = feed.state.stats.database.size;
      const timeouts = feed.state.stats.database.checkout_timeouts;
      const frames = Math.min(size, MOST_TABS);
      wall.begin(frames, 'many');
      act.says('Frames are opened.');
      await act.until(() => (wall.counts()['streaming'] ?? 0) === frames);
      act.equal('tabs that stream', size, wall.counts()['streaming'] ?? 0);
      const before = feed.seq;
      await act.order('/lab/tabs/open?tab=' + (size + 1));
      act.says('Tab ' + (size + 1) + ' has a thread and waits for the database.');
      // No frame has this number; the answer may come before the tab has a port to be known by.
      const stream = () => feed.ofTab(size + 1).find(story => story.path === STREAM_PATH && story.namedSeq > before);
      await act.until(() => stream()?.endedAt);
      const story = stream();
      const took = story?.endedAt ? seconds(story.endedAt - story.startedAt) : null;
      const tab = () => feed.state.lab.tabs.find(it => it.tab === size + 1);
      act.claim('events that tab ' + (size + 1) + ' got', '0', String(tab()?.events ?? 'not there'), tab()?.events === 0);
      act.claim('its stream ended', 'after the checkout timeout', took ? 'after ' + took : 'not seen', took !== null);
      act.claim('tab ' + (size + 1), 'comes back, for it was a 200', tab()?.state ?? 'not there', ['reconnecting', 'connecting', 'open'].includes(tab()?.state));
      act.equal('database connections busy', size, feed.state.stats.database.busy);
      const page = await askForPage(act);
      act.says('A page that needs a query was asked for.');
      await act.until(() => page.answered() !== null);
      act.claim('a page that needs a query', 'answered with 500', pageAnswer(page), page.answered() === 500);
      await act.order('/lab/tabs/close?tab=' + (size + 1));
      await act.until(() => feed.state.stats.busy_threads === size);
      act.equal('pool_capacity, with tab ' + (size + 1) + ' gone', plan.threads - size, feed.state.stats.pool_capacity);
      const timedOut = feed.state.stats.database.checkout_timeouts - timeouts;
      act.claim('checkouts that timed out', '2 or more', String(timedOut), timedOut >= 2);
      return 'Each stream keeps the connection of its first query while it sleeps, as Rails up to 7.1 does. The third limit looks like the other two.';
    },
  },
  {
    title: () => 'One tab is enough',
    expects: () => 'A page left by a link, or by an address that is typed, goes into the browser’s back/forward cache with its stream open, and holds its thread for about a minute ' +
      '(in Chromium). The app’s page closes its stream on pagehide, so its thread is back at the second write. Frames do not use that cache: this takes a tab of the browser’s own.',
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
      // Asked for before the page was left, by the time that the answer took.
      const writes = story.writes;
      if (!next()) {
        act.claim('tab ' + OWN_TAB, 'left for tab ' + (OWN_TAB + 1), 'closed', false);
        return 'A tab that is closed takes nothing with it. Do it again, and leave the page instead.';
      }
      act.says('It was left; the writes to it are counted.');
      await act.until(() => story.endedAt !== null || story.writes >= writes + 5);
      const count = story.gone ? story.gone.write - writes : null;
      act.claim('writes to the page that was left, until one failed', '2, or 3 where one fell into the leaving', count ?? 'none of ' + (story.writes - writes) + ' failed', count !== null && count <= 3);
      await act.until(() => streamOf(OWN_TAB + 1));
      const held = [streamOf(OWN_TAB), streamOf(OWN_TAB + 1)].filter(Boolean).length;
      act.equal('threads that this tab holds now', 1, held);
      return 'Without that one line each page that is left holds a thread, and the browser’s six run out as well: the seventh page of one tab loads when the cache gives up the first. Close the tab that you opened.';
    },
  },
];

function ownTab() {
  const link = element('a', '', 'Open the page in a tab');
  link.href = 'http://localhost:' + document.body.dataset.appPort + '/?tab=' + OWN_TAB;
  link.target = '_blank';
  // With an opener a page is not put into the cache at all.
  link.rel = 'noopener';
  return ['After “Do it”: ', link];
}

// One after the other, each when the one before holds its thread. tiny_http may leave a
// connection unread for ever; then another one takes its place.
async function raise(act, plan) {
  const names = new Set();
  const stories = () => [...feed.stories.values()].filter(story => names.has(story.tab));
  const holding = () => stories().filter(isStreaming).length;
  act.says('Zombies ask for their streams, one after the other.');
  for (let tries = 0; holding() < plan.threads && tries < plan.threads + MOST_STRANDED; tries += 1) {
    const held = holding();
    const { zombies } = await act.order('/lab/zombies');
    names.add('zombie-' + zombies[0].zombie);
    await act.until(() => holding() > held, STRANDED_AFTER_MS);
  }
  return stories;
}
