// Step 5. A maximum age.
{% include "control/steps/zombies.js" %}
const MAX_AGE_S = 4;
const TURNS = 2;

STEPS[4] = {
  title: () => 'A maximum age of ' + MAX_AGE_S + ' s',
  needs: needsZombies,
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
    act.says('Opening tabs. Each must have ' + TURNS + ' turns.');
    let oldest = 0;
    const hadTurns = () => wall.tabs.filter(tab => tab.turns.size >= TURNS).length;
    await act.until(() => {
      oldest = Math.max(oldest, feed.state.stats.streams.oldest_age_s ?? 0);
      return hadTurns() === plan.tabs;
    });
    act.equal('tabs that had ' + TURNS + ' turns or more', plan.tabs, hadTurns());
    // On a busy machine the reaper may be late, so the shown age may be much greater than expected.
    act.claim('the oldest stream', MAX_AGE_S + ' s and one round of the reaper', oldest.toFixed(1) + ' s', oldest > 0 && oldest < MAX_AGE_S * 10);
    return 'A tab reconnects at the end of the queue with the id of its last row, and gets the rows that it missed. The price: it sees nothing between its turns. The maximum age is still set.';
  },
};
