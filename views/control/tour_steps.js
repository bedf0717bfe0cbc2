// Code that the steps of the guided tour share. Each step asks what will happen, does it on the real server,
// and claims only what it read from the server's record and numbers. Each is a separate script (steps/),
// which is loaded when the step is opened.
//
// A step: title(plan); question(plan), guesses(plan), and answer(plan), the index of the right guess; needs(numbers),
// why it cannot be run on this server, or ''; noFrames, if it opens none; byHand(), what only a person can do;
// run(act), which makes claims and returns the reasons. `act` is an Act of tour.js.
const STEPS = Array(7).fill(null);
const LEAVER = 3;
const FEWEST_TABS = 9;
const DATABASE_POOL = 5;

// The expected number of tabs in each state, for the server's number of threads.
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

// Requests a page through the lab, and follows the request in the record.
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
  act.says('Opening tabs, one after another.');
  await act.until(() => wall.tabs.every(tab => tab.isOpen && isSettled(tab.is, feed.state, tab.isLoaded)));
}
