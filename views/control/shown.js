// The contents of the picture: the live record, or the record at an earlier moment (freeze.js), and how much
// of the past.
//
//   shown.record, shown.now()   the record, and its moment in µs
//   shown.max                   the maximum number of threads
//   shown.window(now)           µs from the left edge to now
//   shown.goneAt(story)         when its client closed, as far as this page knows; or null
//   shown.marks()               the orders on the record: [{ at, text }]
const NARROW_US = 15e6;
const STEPS_US = [15e6, 30e6, 60e6];
// Once a shorter window is enough, it narrows by this many times the time that passes.
const NARROWING = 3;
const WINDOWS = ['auto', '15', '60'];

class Shown {
  constructor(feed) {
    this.feed = feed;
    this.frozen = null;
    this.mode = 'auto';
    this.wide = NARROW_US;
    this.before = 0;
  }

  get record() {
    return this.frozen?.record ?? this.feed;
  }

  get max() {
    return this.frozen?.max ?? this.feed.state?.max ?? 0;
  }

  now() {
    return this.frozen ? this.frozen.at : this.feed.now();
  }

  goneAt({ request, closedAt }) {
    const gone = this.feed.goneAt.get(request) ?? closedAt;
    return gone !== null && gone <= this.now() ? gone : null;
  }

  marks() {
    const now = this.now();
    const marks = [...this.record.orders, ...this.feed.ownMarks].filter(mark => mark.at <= now);
    return marks.sort((a, b) => a.at - b.at);
  }

  // The window starts narrow, and grows as soon as the oldest band would leave it.
  window(now) {
    if (this.mode !== 'auto') {
      return Number(this.mode) * 1e6;
    }
    const starts = this.record.todo().map(story => story.queuedAt);
    for (const { current } of this.record.lanes.values()) {
      if (current) {
        starts.push(current.from);
      }
    }
    const oldest = starts.length ? now - Math.min(...starts) : 0;
    const needed = Math.min(Math.max(oldest * 1.02, NARROW_US), WINDOW_US);
    if (CALM.matches) {
      return STEPS_US.find(step => needed <= step);
    }
    const passed = Math.max(now - this.before, 0);
    this.before = now;
    this.wide = Math.max(needed, this.wide - passed * NARROWING);
    return this.wide;
  }

  nextMode() {
    this.mode = WINDOWS[(WINDOWS.indexOf(this.mode) + 1) % WINDOWS.length];
  }
}
