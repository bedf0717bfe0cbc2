// Step 2. One tab closes.
STEPS[1] = {
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
    act.says('Tab ' + leaver + ' is closed. Its thread sleeps and has not noticed.');
    await act.until(() => story.endedAt !== null);
    const { writes, closedAt } = tab.closing;
    const count = story.gone ? story.gone.write - writes : null;
    act.claim('the write that failed after the close', 2, count ?? 'none failed', count === 2);
    act.claim('its error', 'EPIPE', story.gone?.error ?? 'none', story.gone?.error === 'EPIPE');
    act.claim('thread ' + story.lane + ' was freed', 'after two writes', story.gone ? 'after ' + seconds(story.gone.at - closedAt) : 'not seen', Boolean(story.gone));
    if (first) {
      await act.until(() => first.startedAt !== null);
      act.claim('it took ' + first.name + ' from the queue', 'thread ' + story.lane, first.lane ? 'thread ' + first.lane : 'not taken', first.lane === story.lane);
      // Several pages are answered in turn; the stream that is requested first gets the thread.
      const next = () => wall.tabs.slice(plan.streaming).find(tab => tab.state === 'streaming');
      await act.until(next);
      const name = next() ? 'tab ' + next().number : 'none';
      act.claim('waited before and streams now', plan.waiting === 1 ? 'tab ' + (plan.streaming + 1) : 'one of the waiting tabs', name, name !== 'none');
    }
    return 'The kernel accepts the first write after the close, and the browser’s side answers it with a reset. Nothing wakes the sleeping loop, so only the second write fails.';
  },
};

function nineAreThere(plan) {
  const counts = wall.counts();
  return wall.hosts === 'many' && wall.tabs.length === plan.tabs && feed.state.max_stream_age_s === null &&
    counts['streaming'] === plan.streaming && (counts['waiting-for-thread'] ?? 0) === plan.waiting;
}
