// The words of a moment for the log, by its kind: the kind of the line, and its text. Moments
// that every request has get no line. `story` is its request and `lane` its thread, both after
// the moment and before what it ends is over.
const MOMENT_WORDS = {
  spawned: (moment, story, lane) => ['thread', 'thread ' + lane.number + ' started'],
  exited: (moment, story, lane) => ['thread', 'thread ' + lane.number + ' ended'],
  accepted: ({ peeked }, story) => peeked && ['waits', story.name + ' waits in the queue'],
  withdrawn: (moment, story) => ['rejected', story.name + ' was removed from the queue to make room'],
  rejected: ({ status, why }, story) => ['rejected', story.name + ' was refused with ' + status + ': ' + why],
  started: (moment, story, lane) => story.waited > SHORT_US
    && ['starts', 'thread ' + lane.number + ' took ' + story.name + ' after ' + seconds(story.waited) + ' in the queue'],
  streaming: (moment, story, lane) => ['streaming', story.name + ' streams on thread ' + lane.number],
  blocked: ({ us }, story) => ['blocked', 'a write to ' + story.name + ' was blocked for ' + seconds(us)],
  disconnected: ({ write, error }, story, lane) => ['gone', 'write ' + write + ' to ' + story.name + ' failed (' + error + ') on thread ' + lane.number],
  reaped: ({ age_ms: age, why }, story) => ['reaped', story.name + ' was reaped at ' + seconds(age * 1000) + ': ' + why],
  panicked: ({ message }, story) => ['panicked', 'the action of ' + story.name + ' panicked: ' + plain(message, LONGEST_LINE)],
  left: (moment, story) => ['left', story.name + ' was not served: its client closed while it waited'],
  answered: ({ duration_us: lasted }, story, lane) => !story.isStream && !lane.current.end
    && ['answered', 'thread ' + lane.number + ' answered ' + story.name + ' in ' + seconds(lasted)],
};

function wordsOf(moment, story, lane) {
  return Object.hasOwn(MOMENT_WORDS, moment.kind) ? MOMENT_WORDS[moment.kind](moment, story, lane) || null : null;
}
