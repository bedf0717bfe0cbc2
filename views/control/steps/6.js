// Step 6. The database pool.
STEPS[5] = {
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
    // No tile has this number. The answer may arrive before the port of the tab is known.
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
    act.says('A page that needs a query was requested.');
    await act.until(() => page.answered() !== null);
    act.claim('a page that needs a query', 'answered with 500', pageAnswer(page), page.answered() === 500);
    await act.order('/lab/tabs/close?tab=' + (size + 1));
    await act.until(() => feed.state.stats.busy_threads === size);
    act.equal('pool_capacity without tab ' + (size + 1), plan.threads - size, feed.state.stats.pool_capacity);
    const timedOut = feed.state.stats.database.checkout_timeouts - timeouts;
    act.claim('checkouts that timed out', '2 or more', String(timedOut), timedOut >= 2);
    return 'Each stream keeps the connection of its first query while it sleeps, as in Rails up to 7.1. Threads are idle, yet no page that queries works. Reset restores the pool.';
  },
};
