// The wall's controls and keys, and the options in its address.
async function carryOut(path, words) {
  const { ok, said } = await order(path);
  wall.say(ok ? words(said) : said);
}

const freeze = new Freeze(shown, picture, at('freeze'), () => wall.tick());
new Limits(feed, carryOut, words => wall.say(words));

onCount(count => wall.setCount(count), () => wall.openAll());
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
at('window').addEventListener('change', e => {
  setMode(e.target.value);
  picture.draw();
});
at('show-keys').addEventListener('click', () => at('keys').showModal());

// The tour begins on an empty wall, so a page without the tour is reloaded with it.
function openTour() {
  if (tour) {
    tour.toggle(true);
  } else {
    location.search += '&tour=1';
  }
}

const toggleTab = number => {
  const tab = wall.tabs[number - 1];
  return tab ? tab.toggle() : false;
};

onKeys({
  ...wallKeys({ openAll: () => wall.openAll(), closeAll: () => wall.closeAll(), toggleTab, changed: () => picture.draw() }),
  ' ': () => freeze.toggle(),
  t: () => openTour(),
  '?': () => at('keys').showModal(),
  ArrowRight: () => freeze.isFrozen ? freeze.step(1) : tour?.forward() ?? false,
  PageDown: () => freeze.isFrozen ? freeze.step(1) : tour?.forward() ?? false,
  ArrowLeft: () => freeze.isFrozen ? freeze.step(-1) : tour?.backward() ?? false,
  PageUp: () => freeze.isFrozen ? freeze.step(-1) : tour?.backward() ?? false,
  End: () => freeze.isFrozen ? freeze.end() : false,
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
