// The cost for another number of viewers, according to the rules in src/fixes/arithmetic.rs.
const MOST_VIEWERS = 1000000;
const THREADS = Number(at('arithmetic').dataset.threads);
const AGE = Number(at('arithmetic').dataset.age);

// With at most one decimal.
function rounded(number) {
  return String(Math.round(number * 10) / 10);
}

function many(count, word) {
  return rounded(count) + ' ' + word + (count === 1 ? '' : 's');
}

function costs(viewers) {
  const turns = viewers / THREADS - 1;
  return {
    reaper: turns > 0 ? rounded(turns * AGE) + ' s blind for ' + rounded(AGE) + ' s of stream' : 'no tab waits',
    threads: many(viewers, 'thread'),
    polls: rounded(viewers / 2) + ' requests/s',
    long_polls: many(viewers, 'request') + ' per change',
    pushes: 'no thread',
  };
}

function count() {
  const text = at('n').value.trim();
  const viewers = /^\d+$/.test(text) ? Number(text) : 0;
  const isWrong = viewers < 1 || viewers > MOST_VIEWERS;
  at('count').classList.toggle('wrong', isWrong);
  at('n').setAttribute('aria-invalid', isWrong);
  write('wrong', isWrong ? 'Give a number of viewers from 1 to ' + MOST_VIEWERS + '.' : '');
  if (!isWrong) {
    write('of', viewers);
    for (const [name, text] of Object.entries(costs(viewers))) {
      document.querySelector('[data-cost=' + name + ']').textContent = text;
    }
  }
}

at('n').disabled = false;
at('n').addEventListener('input', count);
at('count').addEventListener('submit', e => {
  e.preventDefault();
  count();
});
