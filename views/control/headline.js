// The headline and the meter: the pool in one line of words and in blocks. Both follow from a
// record at one moment.
//
//   poolOf(record, now, max, goneAt)   the numbers: { max, held, gone, ioBound, waiting, zombies, now }
//   headlineOf(pool, tabs)             [[text, kind], …], kind one of 'plain', 'calm', 'waiting'
//   new Meter(place)                   fills the place; meter.show(pool)
const LONGEST_HEADLINE = 56;
const MOST_BLOCKS = 16;
const MOST_WAITING_BLOCKS = 6;

function poolOf(record, now, max, goneAt) {
  const held = [...record.lanes.values()].filter(lane => lane.current);
  return {
    max, now,
    held: held.length,
    gone: held.filter(lane => goneAt(lane.current.story) !== null).length,
    ioBound: held.filter(lane => lane.ioBound).length,
    waiting: record.todo().filter(story => !story.isUncounted),
    zombies: held.filter(({ current: { story } }) => story.isStream && story.tab?.startsWith('zombie-')).length,
  };
}

// A tab by its number, a page of the lab as a page, and everything else as a request.
function calledFirst({ tab }) {
  return /^\d+$/.test(tab ?? '') ? 'Tab ' + plain(tab, 6) : tab?.startsWith('page-') ? 'A page' : tab?.startsWith('zombie-') ? 'A zombie' : 'A request';
}

function headlineOf(pool, tabs = { streaming: 0, inBrowser: 0 }) {
  const { max, held, ioBound, waiting, zombies, now } = pool;
  const first = waiting[0];
  const are = (count, word) => many(count, word) + (count === 1 ? ' is' : ' are');
  const waits = first ? [waiting.length === 1 ? calledFirst(first) + ' has waited ' + tenths(now - first.queuedAt) + '.'
    : waiting.length + ' wait, the first for ' + tenths(now - first.queuedAt) + '.', 'waiting'] : ['Nothing waits.', 'calm'];
  let words = held + ' of ' + many(max, 'thread') + (held === 1 ? ' is held.' : ' are held.');
  if (ioBound) {
    words = are(held, 'thread') + ' held, ' + ioBound + ' marked IO-bound.';
  } else if (tabs.inBrowser && !first && held < max) {
    words = many(tabs.streaming, 'tab') + (tabs.streaming === 1 ? ' streams, ' : ' stream, ') + tabs.inBrowser + (tabs.inBrowser === 1 ? ' is' : ' are') + ' in the browser.';
    return [[words, 'plain'], [are(max - held, 'thread') + ' idle.', 'calm']];
  } else if (held === 0) {
    words = max === 1 ? 'The only thread is idle.' : 'All ' + max + ' threads are idle.';
  } else if (held > max) {
    words = are(held, 'thread') + ' held, ' + (held - max) + ' too many.';
  } else if (held === max && zombies === held) {
    words = max === 1 ? 'A zombie holds the only thread.' : zombies + ' zombies hold all ' + max + ' threads.';
  } else if (held === max && first) {
    words = max === 1 ? 'The only thread is held.' : 'All ' + max + ' threads are held.';
  }
  if (first && words.length + waits[0].length >= LONGEST_HEADLINE) {
    waits[0] = waiting.length + (waiting.length === 1 ? ' waits.' : ' wait.');
  }
  return [[words, 'plain'], waits];
}

// Shows a headline. Screen readers get it at most once per second, without the seconds, which change ten times per
// second.
class Headline {
  constructor(place, spoken) {
    this.place = place;
    this.spoken = spoken;
    this.parts = ['plain', 'calm'].map(kind => element('span', kind));
    this.spokenAt = -Infinity;
    place.replaceChildren(this.parts[0], ' ', this.parts[1]);
  }

  show(parts) {
    parts.forEach(([text, kind], at) => {
      write(this.parts[at], text);
      if (this.parts[at].className !== kind) {
        this.parts[at].className = kind;
      }
    });
    const words = parts.map(([text]) => text).join(' ').replace(/ (has waited|for) [\d.]+ s\./, (all, verb) => verb === 'for' ? ' waits longest.' : ' waits.');
    if (performance.now() - this.spokenAt > 1000 && this.spoken.textContent !== words) {
      this.spokenAt = performance.now();
      write(this.spoken, words);
    }
  }
}

class Meter {
  constructor(place) {
    this.place = place;
    this.shown = '';
    place.setAttribute('role', 'img');
  }

  show({ max, held, gone, waiting }) {
    const shown = [max, held, gone, waiting.length].join();
    if (shown === this.shown) {
      return;
    }
    this.shown = shown;
    const count = element('b', 'meter-count', held + ' / ' + max);
    const waits = waiting.length ? element('b', 'meter-waits', '+' + waiting.length + ' ' + WORDS.waiting) : null;
    const striped = Array.from({ length: Math.min(waiting.length, MOST_WAITING_BLOCKS) }, () => this.block('waiting'));
    this.place.replaceChildren(this.threads(max, held, gone), count, ...striped, ...(waits ? [waits] : []));
    this.place.setAttribute('aria-label', held + ' of ' + many(max, 'thread') + ' held' + (gone ? ', ' + gone + ' by a client that is gone' : '') +
      (waiting.length ? ', ' + waiting.length + ' waiting' : ', nothing waiting'));
  }

  // Blocks for few threads, and one bar for many.
  threads(max, held, gone) {
    const all = Math.max(max, held);
    const threads = element('span', all > MOST_BLOCKS ? 'meter-bar' : 'meter-threads');
    if (all > MOST_BLOCKS) {
      const full = element('i');
      full.style.setProperty('width', 100 * held / all + '%');
      threads.append(full);
      return threads;
    }
    for (let at = 0; at < all; at += 1) {
      threads.append(this.block(at < held - gone ? 'held' : at < held ? 'gone' : 'idle'));
    }
    return threads;
  }

  block(state) {
    const block = element('i');
    block.dataset.state = state;
    return block;
  }
}
