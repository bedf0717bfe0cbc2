// The wall's controls and keys, and what its address asks for.
const LARGEST = 2;
const SMALLEST = 0.6;
let scale = 1;

async function carryOut(path, words) {
  const { ok, said } = await order(path);
  wall.say(ok ? words(said) : said);
}

function countWanted(text) {
  const count = Number(text);
  return Number.isInteger(count) && count >= 1 && count <= MOST_TABS ? count : null;
}

const freeze = new Freeze(shown, picture, at('freeze'), () => wall.tick());
new Limits(feed, carryOut, words => wall.say(words));

at('count').addEventListener('change', e => {
  const count = countWanted(e.target.value);
  if (count === null) {
    wall.say('Give a number of tabs from 1 to ' + MOST_TABS + ', not ' + (e.target.value || 'nothing') + '.');
    e.target.value = wall.tabs.length;
    return;
  }
  const more = wall.tabs.some(tab => tab.isOpen || wall.wanted.has(tab.number));
  wall.setCount(count);
  if (more) {
    wall.openAll();
  }
  wall.keepAddress();
});
document.querySelectorAll('[name="hosts"]').forEach(radio => radio.addEventListener('change', () => wall.begin(wall.tabs.length, radio.value)));
at('use-one').addEventListener('click', () => wall.begin(wall.tabs.length, 'one'));
at('open-all').addEventListener('click', () => wall.openAll());
at('close-all').addEventListener('click', () => wall.closeAll());
at('reset').addEventListener('click', () => {
  tour?.stop();
  wall.closeAll();
  freeze.end();
  carryOut('/lab/reset', said => resetWords(said) + ' The threads of closed tabs are freed at the second write.');
});
at('tour-toggle').addEventListener('click', () => tour && !tour.place.hidden ? tour.toggle(false) : openTour());
at('window').addEventListener('change', e => setWindow(e.target.value));
at('show-keys').addEventListener('click', () => at('keys').showModal());

function setWindow(mode) {
  shown.mode = mode;
  at('window').value = mode;
  picture.draw();
}

// The tour begins on an empty wall, so a page without it is loaded again with it.
function openTour() {
  if (tour) {
    tour.toggle(true);
  } else {
    location.search += '&tour=1';
  }
}

function resize(by) {
  scale = by === 0 ? 1 : Math.min(Math.max(scale * by, SMALLEST), LARGEST);
  document.documentElement.style.setProperty('--scale', scale);
}

function setBare(isBare) {
  set(document.body.dataset, 'bare', String(isBare));
}

const toggleTab = number => {
  const tab = wall.tabs[number - 1];
  return tab ? tab.toggle() : false;
};

onKeys({
  o: () => wall.openAll(),
  x: () => wall.closeAll(),
  ' ': () => freeze.toggle(),
  w: () => {
    shown.nextMode();
    setWindow(shown.mode);
  },
  '+': () => resize(1.1),
  '=': () => resize(1.1),
  '-': () => resize(1 / 1.1),
  0: () => resize(0),
  k: () => setBare(document.body.dataset.bare !== 'true'),
  d: () => toggleScheme(picture.drawing.colors),
  t: () => openTour(),
  '?': () => at('keys').showModal(),
  ArrowRight: () => freeze.isFrozen ? freeze.step(1) : tour?.forward() ?? false,
  PageDown: () => freeze.isFrozen ? freeze.step(1) : tour?.forward() ?? false,
  ArrowLeft: () => freeze.isFrozen ? freeze.step(-1) : tour?.backward() ?? false,
  PageUp: () => freeze.isFrozen ? freeze.step(-1) : tour?.backward() ?? false,
  End: () => freeze.isFrozen ? freeze.end() : false,
  Escape: () => wall.endFull(),
  ...Object.fromEntries([...'123456789'].map(number => [number, () => toggleTab(Number(number))])),
});

const asked = new URLSearchParams(location.search);
const tabsAsked = asked.get('tabs') ?? '9';
const hostsAsked = asked.get('hosts') ?? 'many';
const stepAsked = asked.get('step');
const withTour = tour !== null;
setBare(asked.get('bare') === 'yes');
wall.prepare(countWanted(tabsAsked) ?? 9, hostsAsked === 'one' ? 'one' : 'many');
if (!withTour && asked.get('start') !== 'no') {
  wall.openAll();
}
if (countWanted(tabsAsked) === null) {
  wall.say('Give a number of tabs from 1 to ' + MOST_TABS + ', not ' + plain(tabsAsked, LONGEST_NAME) + '. The wall shows 9.');
} else if (hostsAsked !== 'one' && hostsAsked !== 'many') {
  wall.say('Give hosts=many or hosts=one, not ' + plain(hostsAsked, LONGEST_NAME) + '. The wall uses many.');
}
if (withTour) {
  tour.toggle(true);
  tour.goTo(Math.trunc(Number(stepAsked ?? 1)) - 1 || 0);
}
