// The dashboard's buttons, and the clients that they open.
const PAGES_SHOWN = 5;
const NINE = 9;

const chips = new Map();
function showTabs(tabs) {
  const open = new Set(tabs.map(tab => tab.tab));
  for (const [number, chip] of chips) {
    if (!open.has(number)) {
      const neighbor = chip.contains(document.activeElement) && (chip.nextElementSibling ?? chip.previousElementSibling);
      chip.remove();
      (neighbor || null)?.querySelector('.close').focus();
      chips.delete(number);
    }
  }
  for (const tab of tabs) {
    const chip = chips.get(tab.tab) ?? addChip(tab.tab);
    // The server's record distinguishes a request in the queue from one that is still on its way.
    const waits = tab.state === 'connecting' && feed.ofClient(tab)?.state === 'waiting';
    set(chip.dataset, 'state', waits ? 'waiting' : tab.state);
    const words = { open: ' streams', waiting: ' waits', closed: ' failed', reconnecting: ' reconnects' };
    write(chip.firstChild, 'tab ' + tab.tab + (words[chip.dataset.state] ?? ' ' + chip.dataset.state));
    chip.title = tab.failed ?? '';
  }
  rove([...at('tabs').querySelectorAll('.close')]);
}

function addChip(number) {
  const chip = element('li', 'chip');
  const close = element('button', 'close', '×');
  close.setAttribute('aria-label', 'close tab ' + number);
  close.title = 'closes tab ' + number + '; its thread is freed at the second write';
  close.addEventListener('click', () => carryOut('/lab/tabs/close?tab=' + number, () => 'Tab ' + number + ' is closed. Its thread is held until the second write fails.'));
  chip.append(element('span'), close);
  chip.dataset.tab = number;
  chips.set(number, chip);
  const after = [...chips.keys()].filter(other => other > number).sort((a, b) => a - b)[0];
  at('tabs').insertBefore(chip, chips.get(after) ?? null);
  return chip;
}

function showPages(pages) {
  const list = at('pages');
  const newest = pages.slice(-PAGES_SHOWN).reverse();
  while (list.children.length > newest.length) {
    list.lastChild.remove();
  }
  newest.forEach((page, row) => {
    const item = list.children[row] ?? list.appendChild(element('li'));
    write(item, pageWords(page));
    set(item.dataset, 'page', String(page.page));
    set(item.dataset, 'state', page.answered !== null ? 'answered' : page.failed ? 'failed' : feed.ofClient(page)?.state ?? 'asked');
  });
}

function pageWords(page) {
  const name = 'page-' + page.page;
  const story = feed.ofClient(page);
  const waited = story?.waited > SHORT_US ? ' after ' + seconds(story.waited) + ' in the queue' : ' at once';
  if (page.answered !== null) {
    return name + ': answered with ' + page.answered + (story ? ' by thread ' + story.lane + waited : '');
  }
  if (page.failed) {
    return name + ': ' + page.failed;
  }
  if (story?.state === 'waiting') {
    const ahead = feed.todo().findIndex(other => other === story);
    return name + ': waits in the queue for ' + tenths(feed.now() - story.queuedAt) + ', ' + (ahead === 0 ? 'next' : ahead + ' ahead of it');
  }
  return name + (story?.thread ? ': on thread ' + story.thread : ': asked');
}

// A zombie does not notice that its stream was ended: it stays connected, and holds no thread.
function zombieWords(zombies) {
  const count = many(zombies.length, 'zombie') + ' connected, ';
  const holds = zombies.filter(zombie => feed.ofClient(zombie)?.thread).length;
  if (zombies.length === 0) {
    return '';
  }
  if (holds === 0) {
    const waits = zombies.filter(zombie => feed.ofClient(zombie)?.state === 'waiting').length;
    return count + (waits ? waits + ' in the queue' : 'none holds a thread');
  }
  return count + (holds === zombies.length ? (holds === 1 ? 'it holds a thread' : 'each holds a thread') : holds + (holds === 1 ? ' holds' : ' hold') + ' a thread');
}

function showLab() {
  const { tabs, zombies, pages } = feed.state.lab;
  showTabs(tabs);
  showPages(pages);
  put('zombie-count', zombieWords(zombies));
}

// ---- The buttons.

// Together, these buttons are one tab stop; the left and right arrow keys choose one of them.
function rove(buttons) {
  const current = buttons.find(button => button.tabIndex === 0) ?? buttons[0];
  buttons.forEach(button => {
    button.tabIndex = button === current ? 0 : -1;
    button.onkeydown = e => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      const next = step && buttons[buttons.indexOf(button) + step];
      if (next) {
        e.preventDefault();
        button.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    };
  });
}

async function carryOut(path, words) {
  at('first').hidden = true;
  const { ok, said } = await order(path);
  answer(ok, ok ? words(said) : said);
  return ok;
}

function answer(ok, words) {
  at('answer').dataset.ok = ok;
  at('answer').textContent = words;
}

function click(id, path, words) {
  at(id).addEventListener('click', () => carryOut(path, words));
}

let isOpeningNine = false;
async function openNine() {
  if (isOpeningNine) {
    return;
  }
  isOpeningNine = true;
  await openUpToNine();
  isOpeningNine = false;
}

async function openUpToNine() {
  for (let open = feed.state?.lab.tabs.length ?? 0; open < NINE; open += 1) {
    if (!await carryOut('/lab/tabs/open', said => 'Tab ' + said.tab + ' requests its stream.')) {
      return;
    }
  }
  answer(true, 'Nine tabs are open.');
}

const toolbar = document.querySelector('[role="toolbar"]');
// Both rows of buttons are one tab stop.
rove([...toolbar.querySelectorAll(':scope > button'), ...document.querySelectorAll('.keep > button')]);
click('open-tab', '/lab/tabs/open', said => 'Tab ' + said.tab + ' requests its stream.');
at('open-nine').addEventListener('click', openNine);
at('first-nine').addEventListener('click', openNine);
click('zombies', '/lab/zombies?count=3', said => said.zombies.map(it => 'zombie-' + it.zombie).join(', ') + ' request streams that they will not read.');
click('ask-page', '/lab/page', said => 'page-' + said.page + ' is requested.');
click('reap', '/reap', said => (said.reaped === 1 ? '1 stream was' : said.reaped + ' streams were') + ' reaped.');
click('reset', '/lab/reset', resetWords);
new Limits(feed, carryOut, words => answer(false, words));

const freeze = new Freeze(shown, picture, at('freeze'), () => {
  tick();
  if (feed.state) {
    showNumbers();
    showWarnings();
    showTable();
  }
});
async function download(what) {
  const { ok, said } = await save('/' + what + freeze.query());
  answer(ok, ok ? said + ' is saved.' : said);
}

at('save-report').addEventListener('click', () => download('report'));
at('save-trace').addEventListener('click', () => download('trace'));

onKeys({
  ' ': () => freeze.toggle(),
  End: () => freeze.isFrozen ? freeze.end() : false,
  ArrowRight: () => freeze.isFrozen ? freeze.step(1) : false,
  ArrowLeft: () => freeze.isFrozen ? freeze.step(-1) : false,
});
