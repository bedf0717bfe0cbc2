// Step 7. One real tab.
// A tab of the browser, with a number that no tile has.
const OWN_TAB = 21;

STEPS[6] = {
  title: () => 'One real tab',
  question: () => 'You follow a link to another page. Does the page that you left still hold its thread?',
  guesses: () => ['Yes, for about a minute', 'No, its page closed the stream'],
  answer: () => 1,
  byHand: () => ownTab(),
  async run(act) {
    await act.clear();
    const streamOf = number => feed.ofTab(number).findLast(story => isStreaming(story) && story.namedSeq > before);
    const before = feed.seq;
    act.says('Open the page in a tab with the link above.');
    await act.until(() => streamOf(OWN_TAB), Infinity);
    const story = streamOf(OWN_TAB);
    act.claim('tab ' + OWN_TAB, 'streams', 'on thread ' + story.lane, true);
    act.says('In that tab, change ' + OWN_TAB + ' to ' + (OWN_TAB + 1) + ' in its address, and press Enter. Then come back.');
    const next = () => feed.ofTab(OWN_TAB + 1).findLast(it => it.namedSeq > before);
    await act.until(() => next() || story.endedAt !== null, Infinity);
    // The new page is requested before the old one is left.
    const writes = story.writes;
    if (!next()) {
      act.claim('tab ' + OWN_TAB, 'left for tab ' + (OWN_TAB + 1), 'closed', false);
      return 'The tab was closed, which frees its thread at the second write. Run the step again, and leave the page instead.';
    }
    act.says('The page was left. Counting the writes to it.');
    await act.until(() => story.endedAt !== null || story.writes >= writes + 5);
    const count = story.gone ? story.gone.write - writes : null;
    act.claim('the write that failed after the page was left', '2, or 3 if one happened while it was left', count ?? 'none of ' + (story.writes - writes) + ' failed', count !== null && count <= 3);
    await act.until(() => streamOf(OWN_TAB + 1));
    const held = [streamOf(OWN_TAB), streamOf(OWN_TAB + 1)].filter(Boolean).length;
    act.equal('threads that this tab holds now', 1, held);
    return 'A page that is left goes into the browser’s back/forward cache with its stream open, for about a minute in Chromium. The app’s page closes its stream on pagehide; without that line, each page that is left would hold a thread. Close the tab that you opened.';
  },
};

function ownTab() {
  const link = element('a', '', 'Open the page in a tab');
  link.href = 'http://localhost:' + document.body.dataset.appPort + '/?tab=' + OWN_TAB;
  link.target = '_blank';
  // A page with an opener is not put into the cache.
  link.rel = 'noopener';
  return ['After “Run this step”: ', link];
}
