// The strip at the top: how many threads are held, and how many requests wait. The control server answers each request
// immediately and closes its connection. A hidden page sends no requests.
const POOL_EVERY_MS = 1000;
const POOL_PATIENCE_MS = 900;
const MOST_BLOCKS = 16;

function followPool() {
  const strip = at('pool');
  if (!strip) {
    return;
  }
  let isAsking = false;
  let timer = null;

  async function ask() {
    isAsking = true;
    try {
      const answer = await fetch(strip.dataset.at + '/pool', { cache: 'no-store', signal: AbortSignal.timeout(POOL_PATIENCE_MS) });
      showPool(strip, answer.ok ? await answer.json() : null);
    } catch {
      showPool(strip, null);
    }
    isAsking = false;
    resume(POOL_EVERY_MS);
  }

  // A library may have swapped the page for another one, whose script has a loop of its own.
  function resume(pause) {
    clearTimeout(timer);
    if (!strip.isConnected) {
      document.removeEventListener('visibilitychange', look);
    } else if (!document.hidden && !isAsking) {
      timer = setTimeout(ask, pause);
    }
  }

  function look() {
    resume(0);
  }

  showPool(strip, undefined);
  document.addEventListener('visibilitychange', look);
  look();
}

// Null if there is no answer, and undefined before the first one.
function showPool(strip, pool) {
  const count = strip.querySelector('#pool-count');
  if (pool) {
    const { threads, held, waiting } = pool;
    count.textContent = held + ' of ' + threads + ' · ' + waiting + ' waiting';
    drawPool(strip, held, threads);
  } else if (pool === null) {
    count.textContent = 'no answer from the control server';
    drawPool(strip, 0, Number(strip.dataset.threads));
  } else {
    drawPool(strip, 0, Number(strip.dataset.threads));
  }
}

// Blocks for few threads, and one bar for many.
function drawPool(strip, held, threads) {
  const all = Math.max(threads, held);
  const blocks = strip.querySelector('#pool-blocks');
  const isBar = all > MOST_BLOCKS;
  const shown = [held, all].join();
  if (blocks.dataset.shown === shown) {
    return;
  }
  blocks.dataset.shown = shown;
  blocks.className = isBar ? 'pool-bar' : '';
  blocks.replaceChildren(...Array.from({ length: isBar ? 1 : all }, (_, thread) => {
    const block = document.createElement('i');
    block.dataset.state = isBar || thread < held ? 'held' : 'idle';
    if (isBar) {
      block.style.width = 100 * held / all + '%';
    }
    return block;
  }));
}
