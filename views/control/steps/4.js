// Step 4. Zombies.
{% include "control/steps/zombies.js" %}
STEPS[3] = {
  title: plan => 'Zombies hold ' + many(plan.threads, 'thread'),
  noFrames: true,
  needs: needsZombies,
  question: plan => many(plan.threads, 'client') + ' stay connected and never read (zombies). Which write fails first?',
  guesses: () => ['The second', 'One when a buffer is full', 'None while you watch'],
  answer: () => 2,
  async run(act, plan) {
    await act.clear();
    const zombies = await raise(act, plan);
    act.equal('threads that the zombies hold', plan.threads, zombies().filter(isStreaming).length);
    const page = await askForPage(act);
    const before = new Map(zombies().map(story => [story, story.writes]));
    act.says('A page was requested. Waiting for two more writes to each zombie.');
    const more = () => [...before].filter(([story, writes]) => story.writes >= writes + 2).length;
    await act.until(() => more() >= plan.threads);
    const failed = zombies().filter(story => story.gone).length;
    act.claim('failed writes to the zombies', '0', failed + ' of ' + zombies().reduce((all, story) => all + story.writes, 0), failed === 0 && more() === plan.threads);
    const waits = page.story()?.state === 'waiting';
    act.claim('a plain page, all that time', 'in the queue', pageAnswer(page, waits), waits);
    return 'The kernels on both sides buffer megabytes of small events. To the loop, a zombie looks like a normal client for hours. The next step frees these threads.';
  },
};
