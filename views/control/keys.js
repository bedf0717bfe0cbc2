// Keys of the page. `keys` has a function for each `event.key`; if it returns false, the browser handles the key. Keys
// do nothing while a field has the focus, while a modifier is pressed, or with ?keys=off in the address.
const KEYS_OFF = new URLSearchParams(location.search).get('keys') === 'off';
const FIELDS = 'input, select, textarea, [contenteditable]';

function onKeys(keys) {
  addEventListener('keydown', e => {
    const isBusy = e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || e.target.closest?.(FIELDS) || document.querySelector('dialog[open]');
    // A key that is held down can only step through events; it does nothing else twice.
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

// Switches between dark and light, whatever the system prefers. The choice lasts until the page is reloaded.
function toggleScheme(colors) {
  const isDark = getComputedStyle(document.documentElement).colorScheme === 'dark'
    || (document.documentElement.style.colorScheme === '' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.style.setProperty('color-scheme', isDark ? 'light' : 'dark');
  colors.read();
}
