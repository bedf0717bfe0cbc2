// The controls and keys that a single wall and two walls have in common (wall_controls.js, beside.js).
const LARGEST = 2;
const SMALLEST = 0.6;
let scale = 1;

function resize(by) {
  scale = by === 0 ? 1 : Math.min(Math.max(scale * by, SMALLEST), LARGEST);
  document.documentElement.style.setProperty('--scale', scale);
}

function setMode(mode) {
  shown.mode = mode;
  at('window').value = mode;
}

function setBare(isBare) {
  set(document.body.dataset, 'bare', String(isBare));
}

// If tabs are open and their number is increased, the new ones are opened as well.
function onCount(setCount, openAll) {
  at('count').addEventListener('change', e => {
    const count = countWanted(e.target.value);
    if (count === null) {
      wall.say('Give a number of tabs from 1 to ' + MOST_TABS + ', not ' + (e.target.value || 'nothing') + '.');
      e.target.value = wall.tabs.length;
      return;
    }
    const more = wall.tabs.some(tab => tab.isOpen || wall.wanted.has(tab.number));
    setCount(count);
    if (more) {
      openAll();
    }
    wall.keepAddress();
  });
}

// `changed` is called after a key has changed the window, the size or the colors.
function wallKeys({ openAll, closeAll, toggleTab, changed }) {
  const then = change => () => {
    change();
    changed();
  };
  return {
    o: openAll,
    x: closeAll,
    w: then(() => {
      shown.nextMode();
      setMode(shown.mode);
    }),
    '+': then(() => resize(1.1)),
    '=': then(() => resize(1.1)),
    '-': then(() => resize(1 / 1.1)),
    0: then(() => resize(0)),
    k: () => setBare(document.body.dataset.bare !== 'true'),
    d: then(() => toggleScheme(picture.drawing.colors)),
    Escape: () => wall.endFull(),
    ...Object.fromEntries([...'123456789'].map(number => [number, () => toggleTab(Number(number))])),
  };
}
