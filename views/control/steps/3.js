// Step 3. One host: the browser’s six connections.
STEPS[2] = {
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
    act.equal('pages requested from the server', plan.asked, feed.seq > before ? pages.length : 0);
    act.equal('tabs that stream', plan.onOneHost, counts['streaming'] ?? 0);
    act.equal('tabs in the browser', plan.tabs - plan.asked, counts['waiting-for-socket'] ?? 0);
    act.equal('idle threads', plan.threads - plan.onOneHost, feed.state.stats.pool_capacity);
    if (plan.threads > plan.onOneHost) {
      const page = await askForPage(act);
      await act.until(() => page.answered() !== null);
      act.claim('a page for another client', 'answered with 200', pageAnswer(page), page.answered() === 200);
    }
    return 'The browser opens six connections per host over HTTP/1.1, and all six to ' + wall.hostOf(1) + ' are in use. To the user of the tab, both limits look alike; the server’s record tells them apart.';
  },
};
