// The words of a moment for the log, by its kind: what sort of line it is, and its text. No
// words are said of what happens to every request. `story` is its request and `lane` its
// thread, as they are after the moment and before what it ends is over.
const MOMENT_WORDS = {
  spawned: (moment, story, lane) => ['thread', 'thread ' + lane.number + ' starts'],
  exited: (moment, story, lane) => ['thread', 'thread ' + lane.number + ' leaves'],
  accepted: ({ peeked }, story) => peeked && ['waits', story.name + ' waits in todo'],
  withdrawn: (moment, story) => ['rejected', story.name + ' leaves todo: its connection was to make room'],
  rejected: ({ why }, story) => ['rejected', story.name + ' is turned away: ' + why],
  started: (moment, story, lane) => story.waited > SHORT_US
    && ['starts', story.name + ' is taken by thread ' + lane.number + ' after ' + seconds(story.waited) + ' in todo'],
  streaming: (moment, story, lane) => ['streaming', story.name + ' streams on thread ' + lane.number],
  blocked: ({ us }, story) => ['blocked', 'a write to ' + story.name + ' waited ' + seconds(us) + ' for its reader'],
  disconnected: ({ write, error }, story) => ['gone', 'write ' + write + ' to ' + story.name + ' fails (' + error + '): its client is gone'],
  reaped: ({ age_ms: age, why }, story) => ['reaped', story.name + ' is told to end at ' + seconds(age * 1000) + ': ' + why],
  panicked: ({ message }, story) => ['panicked', 'the action of ' + story.name + ' panicked: ' + plain(message, LONGEST_LINE)],
  left: (moment, story) => ['left', story.name + ' is not served: its client closed before its turn'],
  answered: ({ duration_us: lasted }, story, lane) => !story.isStream && !lane.current.end
    && ['answered', story.name + ' is answered by thread ' + lane.number + ' in ' + seconds(lasted)],
};

function wordsOf(moment, story, lane) {
  return Object.hasOwn(MOMENT_WORDS, moment.kind) ? MOMENT_WORDS[moment.kind](moment, story, lane) || null : null;
}
