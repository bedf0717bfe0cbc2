// Step 1. Nine tabs, eight threads.
STEPS[0] = {
  title: plan => inWords(plan.tabs) + ' tabs, ' + (plan.threads === 1 ? 'one thread' : inWords(plan.threads).toLowerCase() + ' threads'),
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
    act.equal('busy_threads' + (spare() ? ', with ' + many(spare(), 'spare connection') : ''), plan.tabs + spare(), busy());
    act.equal('pool_capacity', plan.threads - plan.streaming, feed.state.stats.pool_capacity);
    const page = await askForPage(act);
    if (!plan.waiting) {
      await act.until(() => page.answered() !== null);
      act.claim('a plain page', 'answered with 200', pageAnswer(page), page.answered() === 200);
      return 'There is a thread for each tab, and one for the page.';
    }
    act.says('A page was requested. Waiting for two more writes to each tab.');
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
};
