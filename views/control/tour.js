// The guided tour: steps for a presenter. Each asks a question, runs on this server, and shows its findings.
// tour_steps.js and steps/ define what a step does and claims; this file runs one step at a time.
const NONCE = document.currentScript.nonce;

// A step was stopped, by the presenter or because another step was chosen.
class Stopped extends Error {}

// The control server refused an order.
class Refused extends Error {}

// One run of a step.
class Act {
  constructor(tour) {
    this.tour = tour;
    this.isStopped = false;
    this.waiting = null;
    this.claims = [];
    this.looks = 0;
  }

  // Called after each event of the feed.
  hear(change) {
    this.looks += change === 'state' ? 1 : 0;
    this.waiting?.();
  }

  stop() {
    this.isStopped = true;
    this.waiting?.();
  }

  // Resolves to the value of `look` as soon as it is truthy, or to null after a time that is enough on any machine. The
  // claims that follow judge the result.
  until(look, patienceMs = 90e3) {
    return new Promise((resolve, reject) => {
      let timer = null;
      const end = (settle, value) => {
        clearTimeout(timer);
        this.waiting = null;
        settle(value);
      };
      this.waiting = () => {
        const found = this.isStopped ? null : look();
        if (this.isStopped) {
          end(reject, new Stopped());
        } else if (found) {
          end(resolve, found);
        }
      };
      if (patienceMs !== Infinity) {
        timer = setTimeout(() => this.waiting && end(resolve, null), patienceMs);
      }
      this.waiting();
    });
  }

  // Waits for numbers that were taken after this call.
  look() {
    const since = this.looks;
    return this.until(() => this.looks >= since + 2);
  }

  async order(path) {
    const { ok, said } = await order(path);
    if (this.isStopped) {
      throw new Stopped();
    }
    if (!ok) {
      throw new Refused(said);
    }
    return said;
  }

  // Closes everything that was opened here and turns the maximum age off. The number of threads stays.
  async clear() {
    this.says('Closing what is open. Its threads are freed at the second write.');
    const { min, max } = feed.state;
    wall.closeAll();
    await this.order('/lab/reset');
    await this.order('/resize?min=' + min + '&max=' + max);
    await this.order('/max-stream-age?secs=off');
    await this.look();
    const idle = () => feed.state.stats.busy_threads === 0 && feed.state.stats.streams.open === 0;
    if (!await this.until(idle)) {
      const others = feed.state.threads.filter(thread => thread.path !== null).map(thread => plain(thread.path, LONGEST_NAME));
      this.claim('threads held before this step', '0', others.length + ': ' + others.join(', '), false);
    }
  }

  says(words) {
    write(at('doing'), words);
  }

  equal(claim, expected, measured) {
    this.claim(claim, expected, measured, expected === measured);
  }

  claim(claim, expected, measured, held) {
    this.claims.push(held);
    const item = element('li');
    item.dataset.held = held;
    item.append(element('span', 'sign', held ? '✓' : '✗'), element('span', '', claim + ': ' + measured + (held ? '' : ' (expected: ' + expected + ')')));
    at('findings').append(item);
  }
}

class Tour {
  constructor() {
    this.place = at('tour');
    this.step = 0;
    this.act = null;
    this.verdicts = STEPS.map(() => 'none');
    this.guesses = STEPS.map(() => null);
    this.loading = [];
    this.buttons = STEPS.map((step, number) => {
      const button = element('button', '', String(number + 1));
      button.addEventListener('click', () => this.goTo(number));
      const item = element('li');
      item.append(button);
      at('steps').append(item);
      return button;
    });
    this.click('do', () => this.run());
    this.click('stop', () => this.stop());
    this.click('next', () => this.goTo(this.step + 1));
    this.click('back', () => this.goTo(this.step - 1));
    feed.on(change => {
      this.act?.hear(change);
      if (change === 'state') {
        this.showPlan();
      }
    });
  }

  // A button that is only marked as disabled keeps the focus.
  click(id, what) {
    at(id).addEventListener('click', () => at(id).ariaDisabled !== 'true' && what());
  }

  enable(id, can) {
    at(id).setAttribute('aria-disabled', !can);
  }

  toggle(open = this.place.hidden) {
    this.place.hidden = !open;
    at('stage').classList.toggle('with-tour', open);
    at('tour-toggle').setAttribute('aria-expanded', open);
    at('tour-toggle').classList.toggle('main', !open);
    write(at('tour-toggle'), open ? 'Close the tour' : '▶ Start the tour');
    if (open) {
      at('step-title').focus({ preventScroll: true });
    } else {
      this.stop();
    }
  }

  // The presenter's keys: run this step, then go to the next one.
  forward() {
    if (this.place.hidden) {
      return false;
    }
    if (this.act) {
      return true;
    }
    if (!STEPS[this.step]) {
      this.goTo(this.step);
      return true;
    }
    const isOver = !['none', 'running'].includes(this.place.dataset.verdict);
    if (isOver || at('do').ariaDisabled === 'true') {
      this.goToOther(this.step + 1);
    } else {
      this.run();
    }
    return true;
  }

  backward() {
    if (this.place.hidden) {
      return false;
    }
    this.goToOther(this.step - 1);
    return true;
  }

  // Beyond the first and the last step, a key changes nothing.
  goToOther(number) {
    if (number in STEPS) {
      this.goTo(number);
    }
  }

  async goTo(number) {
    this.stop();
    this.step = Math.min(Math.max(number, 0), STEPS.length - 1);
    this.place.dataset.step = this.step + 1;
    this.buttons.forEach((button, other) => {
      if (other === this.step) {
        button.setAttribute('aria-current', 'step');
      } else {
        button.removeAttribute('aria-current');
      }
    });
    this.enable('back', this.step > 0);
    this.enable('next', this.step < STEPS.length - 1);
    this.clean('none');
    if (await this.load(this.step)) {
      this.show(STEPS[this.step]);
    }
  }

  // Loads a step once. Resolves to whether it has been loaded and is still the chosen one.
  async load(number) {
    if (!STEPS[number]) {
      for (const id of ['step-title', 'question', 'by-hand', 'guesses']) {
        at(id).textContent = '';
      }
      this.need('The step is loading.');
      this.loading[number] ??= this.fetch(number);
      await this.loading[number];
      this.loading[number] = undefined;
    }
    if (this.step === number && !STEPS[number]) {
      this.need('This step cannot be loaded: the control server does not answer. Choose it again.');
    }
    return this.step === number && STEPS[number] !== null;
  }

  fetch(number) {
    return new Promise(resolve => {
      const script = element('script');
      script.nonce = NONCE;
      script.src = '/tour/' + (number + 1) + '.js?' + new URLSearchParams({ token: TOKEN });
      script.onload = script.onerror = resolve;
      document.head.append(script);
    });
  }

  show(step) {
    const by = step.byHand?.() ?? [];
    at('by-hand').replaceChildren(...by);
    at('by-hand').hidden = !by.length;
    // In a step without frames the lanes take their place.
    set(at('stage').dataset, 'empty', String(step.noFrames === true));
    this.showPlan();
    this.showGuesses();
    if (!this.place.hidden) {
      at('step-title').focus({ preventScroll: true });
    }
  }

  clean(verdict) {
    at('findings').replaceChildren();
    for (const id of ['doing', 'verdict', 'why', 'guessed']) {
      at(id).textContent = '';
    }
    at('guessed').hidden = true;
    this.judge(verdict);
  }

  judge(verdict) {
    this.place.dataset.verdict = verdict;
    if (verdict !== 'running' && verdict !== 'none') {
      this.verdicts[this.step] = verdict;
    }
    this.buttons.forEach((button, number) => {
      const words = { 'held': ', as expected', 'not-held': ', not as expected' }[this.verdicts[number]] ?? '';
      button.dataset.verdict = this.verdicts[number];
      button.setAttribute('aria-label', 'step ' + (number + 1) + words);
    });
    this.enable('do', verdict !== 'running' && STEPS[this.step] !== null && at('needs').hidden);
    this.enable('stop', verdict === 'running');
  }

  showPlan() {
    const step = STEPS[this.step];
    if (this.act || !step) {
      return;
    }
    // The question stays beside the findings.
    if (this.place.dataset.verdict === 'none') {
      this.plan = planFor(feed.state?.max ?? 8, feed.state?.stats.database.size ?? 8);
      write(at('step-title'), (this.step + 1) + '. ' + step.title(this.plan));
      write(at('question'), step.question(this.plan));
    }
    this.need(feed.state ? step.needs?.(feed.state) ?? '' : 'Waiting for the first numbers of the server.');
  }

  // Why the step cannot be run now, or ''.
  need(words) {
    write(at('needs'), words);
    at('needs').hidden = !words;
    this.enable('do', !words && STEPS[this.step] !== null && this.act === null);
  }

  showGuesses() {
    const buttons = STEPS[this.step].guesses(this.plan).map((words, number) => {
      const button = element('button', '', words);
      button.setAttribute('aria-pressed', this.guesses[this.step] === number);
      button.addEventListener('click', () => {
        this.guesses[this.step] = number;
        [...at('guesses').children].forEach(other => other.setAttribute('aria-pressed', other === button));
      });
      return button;
    });
    at('guesses').replaceChildren(...buttons);
  }

  // Shows the guess beside the finding.
  compare(found) {
    const guess = this.guesses[this.step];
    if (guess === null) {
      return;
    }
    const words = STEPS[this.step].guesses(this.plan);
    at('guessed').hidden = false;
    write(at('guessed'), 'Your prediction: ' + words[guess] + (guess === found ? ' ✓' : '. Found: ' + words[found] + '.'));
  }

  stop() {
    this.act?.stop();
    this.act = null;
  }

  async run() {
    this.stop();
    this.clean('none');
    this.showPlan();
    const act = new Act(this);
    this.act = act;
    this.judge('running');
    let verdict = 'none';
    let last = '';
    let why = '';
    try {
      why = await STEPS[this.step].run(act, this.plan);
      const held = act.claims.length > 0 && act.claims.every(Boolean);
      verdict = held ? 'held' : 'not-held';
      last = held ? WORDS.expected : WORDS.unexpected + ' (' + act.claims.filter(it => !it).length + ' of ' + many(act.claims.length, 'claim') + ')';
    } catch (error) {
      if (error instanceof Stopped) {
        last = 'Stopped.';
      } else if (error instanceof Refused) {
        verdict = 'not-held';
        last = 'The control server refused: ' + error.message;
      } else {
        throw error;
      }
    }
    if (this.act === act || act.isStopped && this.act === null && this.place.dataset.verdict === 'running') {
      this.act = null;
      write(at('doing'), '');
      write(at('why'), why);
      this.judge(verdict);
      write(at('verdict'), last);
      at('verdict').scrollIntoView({ block: 'nearest' });
      if (verdict === 'held') {
        this.compare(STEPS[this.step].answer(this.plan));
      }
    }
  }
}

tour = new Tour();
