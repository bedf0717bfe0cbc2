// Freezes the picture, and moves it through the whole record. The record is fetched from the server (/timeline) and
// folded again up to the chosen event, by the same rules as the live one.
class Freeze {
  // `show` is called after each step, to update the rest of the page.
  constructor(shown, picture, button, show) {
    this.shown = shown;
    this.picture = picture;
    this.button = button;
    this.show = show;
    this.moments = [];
    this.index = 0;
    this.run = 0;
    this.slider = at('scrub-at');
    button.addEventListener('click', () => this.toggle());
    setInterval(() => this.isFrozen && this.sayWhen(), 1000);
    this.slider.addEventListener('input', () => this.goTo(Number(this.slider.value)));
    this.slider.addEventListener('keydown', e => {
      if (e.key === 'End') {
        e.preventDefault();
        this.end();
      }
    });
    at('scrub-back').addEventListener('click', () => this.step(-1));
    at('scrub-on').addEventListener('click', () => this.step(1));
    at('scrub-live').addEventListener('click', () => this.end());
  }

  get isFrozen() {
    return this.shown.frozen !== null;
  }

  toggle() {
    this.isFrozen ? this.end() : this.begin();
  }

  // The period that a saved file covers: the frozen picture, or the last minute.
  query() {
    if (!this.isFrozen) {
      return '?last=60';
    }
    const to = this.shown.now();
    const seconds = us => (Math.max(us, 0) / 1e6).toFixed(6);
    return '?from=' + seconds(to - this.shown.window(to)) + '&to=' + seconds(to);
  }

  // The picture freezes immediately. It can be moved once the whole record has arrived.
  async begin() {
    const { feed } = this.shown;
    const seq = feed.seq;
    this.run += 1;
    const run = this.run;
    this.max = this.shown.max;
    this.shown.frozen = { record: feed.copy(), at: feed.now(), max: this.max };
    this.frozenAt = feed.now();
    this.moments = [];
    this.tell();
    const { ok, said } = await look('/timeline?after=0');
    if (run !== this.run || !this.isFrozen || !ok) {
      return;
    }
    this.forgotten = said.forgotten;
    this.moments = said.moments.filter(moment => moment.seq <= seq);
    this.slider.max = Math.max(this.moments.length - 1, 0);
    this.index = this.moments.length - 1;
    this.tell();
  }

  end() {
    this.run += 1;
    this.shown.frozen = null;
    this.moments = [];
    this.tell();
  }

  step(by) {
    this.goTo(this.index + by);
  }

  goTo(index) {
    if (!this.isFrozen || !this.moments.length) {
      return;
    }
    this.index = Math.min(Math.max(index, 0), this.moments.length - 1);
    const isLast = this.index === this.moments.length - 1;
    const at = isLast ? this.frozenAt : this.moments[this.index].at_us;
    this.shown.frozen = { record: foldUpTo(this.moments, this.index, at, this.forgotten), at, max: this.max };
    this.tell();
  }

  tell() {
    const { isFrozen } = this;
    this.button.setAttribute('aria-pressed', isFrozen);
    write(this.button, isFrozen ? 'Continue' : 'Freeze');
    at('scrub').hidden = !isFrozen;
    set(document.body.dataset, 'frozen', String(isFrozen));
    if (isFrozen) {
      this.slider.value = this.index;
      const words = this.sayWhen();
      this.slider.setAttribute('aria-valuetext', words);
      write(at('scrub-spoken'), words);
    }
    this.picture.arrange();
    this.picture.draw();
    this.show();
  }

  // Shows how long ago the frozen moment was. The time grows, since the server continues.
  sayWhen() {
    const moment = this.moments[this.index];
    const words = 'Frozen, ' + tenths(this.shown.feed.now() - this.shown.now()) + ' ago' +
      (moment ? '; event ' + (this.index + 1) + ' of ' + this.moments.length : '');
    write(at('scrub-says'), words);
    return words;
  }
}

// The record up to and including this moment. Events that the server has dropped are drawn as not recorded.
function foldUpTo(moments, index, now, forgotten) {
  const record = new Record();
  record.since = forgotten ? moments[0].at_us : 0;
  if (forgotten) {
    const known = new Set();
    for (const { thread, kind } of moments) {
      // A thread whose start is in the record did not exist before that start.
      if (thread !== undefined && !known.has(thread) && kind !== 'spawned') {
        Object.assign(record.lane(thread), { alive: true, unknownSince: record.since });
      }
      known.add(thread);
    }
  }
  record.hear({ now_us: now, moments: moments.slice(0, index + 1) });
  return record;
}
