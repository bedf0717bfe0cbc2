// The maximum age and the number of threads, on the wall and on the dashboard: the fields show the
// server's values, and send what the user chooses.
class Limits {
  // `carryOut(path, words)` sends an order; `refuse(words)` reports what is wrong with an input.
  constructor(feed, carryOut, refuse) {
    this.feed = feed;
    this.carryOut = carryOut;
    this.refuse = refuse;
    this.isOn = at('age-on');
    this.age = at('age').elements.secs;
    this.choice = at('threads').elements.choice;
    this.count = at('threads').elements.count;
    this.options = '';
    this.isOn.addEventListener('change', () => this.isOn.checked ? this.sendAge() : this.sendAge('off'));
    // While the maximum age is off, a changed number is not sent until the switch or Enter sends it. Enter in a changed
    // field fires both events.
    this.age.addEventListener('change', () => this.isOn.checked || this.age.value.trim() === 'off' ? this.sendAge() : this.isValidAge());
    at('age').addEventListener('submit', e => {
      e.preventDefault();
      if (!this.isOn.checked) {
        this.sendAge();
      }
    });
    this.choice.addEventListener('change', () => this.choose());
    this.count.addEventListener('change', () => this.sendCount(this.count.value));
    at('threads').addEventListener('submit', e => {
      e.preventDefault();
    });
    feed.on(change => change === 'state' && this.show());
  }

  isValidAge(text = this.age.value.trim()) {
    const wrong = wrongAge(text);
    this.age.setAttribute('aria-invalid', String(wrong !== null));
    if (wrong) {
      this.isOn.checked = this.feed.state?.max_stream_age_s != null;
      this.refuse(wrong);
    }
    return !wrong;
  }

  sendAge(text = this.age.value.trim()) {
    if (!this.isValidAge(text)) {
      return;
    }
    this.carryOut('/max-stream-age?secs=' + encodeURIComponent(text), said => ageWords(said.max_stream_age_s));
  }

  choose() {
    const isOther = this.choice.value === 'other';
    this.count.hidden = !isOther;
    if (isOther) {
      this.count.value = this.feed.state?.max ?? '';
      this.count.focus();
      this.count.select();
    } else {
      this.sendCount(this.choice.value);
    }
  }

  sendCount(text) {
    const wrong = wrongThreads(text.trim());
    this.count.setAttribute('aria-invalid', String(wrong !== null));
    if (wrong) {
      return this.refuse(wrong);
    }
    this.count.hidden = true;
    this.carryOut('/lab/threads?count=' + encodeURIComponent(text.trim()), said => many(said.max, 'thread') + ', minimum and maximum.');
  }

  show() {
    const { max, max_stream_age_s: age } = this.feed.state;
    // A field is not changed while it has the focus.
    if (document.activeElement !== this.isOn) {
      this.isOn.checked = age !== null;
    }
    if (age !== null && document.activeElement !== this.age) {
      this.age.value = age;
    }
    const atStart = Number(document.body.dataset.threads);
    const options = [...new Set([atStart, 3, max])].join();
    if (options !== this.options) {
      this.options = options;
      const texts = { 3: '3, as in a new Rails app' };
      const items = options.split(',').map(count => new Option(texts[count] ?? count, count));
      this.choice.replaceChildren(...items, new Option('a number…', 'other'));
    }
    if (this.count.hidden) {
      this.choice.value = String(max);
    }
  }
}
