// Keys of the page. `keys` has a function for each `event.key`; what returns false leaves the
// key to the browser. Nothing happens while a field has the focus, with a modifier, or with
// ?keys=off in the address.
const KEYS_OFF = new URLSearchParams(location.search).get('keys') === 'off';
const FIELDS = 'input, select, textarea, [contenteditable]';

function onKeys(keys) {
  addEventListener('keydown', e => {
    const isBusy = e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || e.target.closest?.(FIELDS) || document.querySelector('dialog[open]');
    // A key that is held down steps through events, and does nothing else twice.
    const repeats = e.repeat && !e.key.startsWith('Arrow');
    const scrolls = e.key === ' ' && e.target.closest?.('.log');
    // Space and Enter press the button that has the focus.
    const presses = [' ', 'Enter'].includes(e.key) && e.target.closest?.('button, a, summary');
    if (KEYS_OFF || isBusy || repeats || scrolls || presses || !Object.hasOwn(keys, e.key)) {
      return;
    }
    if (keys[e.key](e) !== false) {
      e.preventDefault();
    }
  });
}

// Dark or light, against what the system prefers; what was chosen lasts as long as the page.
function toggleScheme(colors) {
  const isDark = getComputedStyle(document.documentElement).colorScheme === 'dark'
    || (document.documentElement.style.colorScheme === '' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.style.setProperty('color-scheme', isDark ? 'light' : 'dark');
  colors.read();
}
