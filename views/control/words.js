// The log: which moments get a line, its kind, and the parts of its text. The texts are EVENT_WORDS, which `top` uses
// as well. Moments that every request has get no line. `story` is the moment's request and `lane` its thread: both
// already reflect the moment, except that a request that it ends is still open.
const LINES = {
  spawned: () => ['thread'],
  exited: () => ['thread'],
  accepted: ({ peeked }) => peeked && ['waits'],
  withdrawn: () => ['rejected'],
  rejected: ({ status, why }) => ['rejected', { status, why }],
  started: (moment, story) => story.waited > SHORT_US && ['starts', { time: seconds(story.waited) }],
  streaming: () => ['streaming'],
  blocked: ({ us }) => ['blocked', { time: seconds(us) }],
  disconnected: ({ write, error }) => ['gone', { write, error }],
  reaped: ({ age_ms: age, why }) => ['reaped', { time: seconds(age * 1000), why }],
  panicked: ({ message }) => ['panicked', { message: plain(message, LONGEST_LINE) }],
  left: () => ['left'],
  action_began: ({ worker }) => ['streaming', { action: 'action ' + worker }],
  action_orphaned: ({ worker }) => ['gone', { action: 'action ' + worker }],
  action_ended: ({ worker }) => ['left', { action: 'action ' + worker }],
  ordered: ({ text }) => ['ordered', { text }],
  database: ({ text }) => ['ordered', { text }],
  answered: ({ duration_us: lasted }, story, lane) => !story.isStream && !lane.current.end && ['answered', { time: seconds(lasted) }],
};

wordsOf = (moment, story, lane) => {
  const [kind, more] = Object.hasOwn(LINES, moment.kind) && LINES[moment.kind](moment, story, lane) || [];
  const parts = { name: story?.name, thread: lane && 'thread ' + lane.number, ...more };
  const line = moment.error === SEEN_CLOSED ? 'seen_closed' : moment.kind;
  return kind ? [kind, EVENT_WORDS[line].replace(/{(\w+)}/g, (all, part) => parts[part])] : null;
};
