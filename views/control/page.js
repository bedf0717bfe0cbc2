// Helpers for every page of the control server.
const at = id => document.getElementById(id);
const CALM = matchMedia('(prefers-reduced-motion: reduce)');

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) {
    made.className = kind;
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

// Writes a text only if it differs, so that it stays selected and a screen reader does not repeat it.
function write(place, text) {
  if (place.textContent !== text) {
    place.textContent = text;
  }
}

function set(data, name, value) {
  if (data[name] !== value) {
    data[name] = value;
  }
}

// Calls `call` when the colors of the page change. Several functions are called in the order of their registration.
function onRecolored(call) {
  for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)', 'print']) {
    matchMedia(query).addEventListener('change', call);
  }
}

// The colors of palette.css as the browser has resolved them, for a canvas.
class Colors {
  constructor(names) {
    this.names = names;
    this.probe = element('i', 'probe');
    this.probe.hidden = true;
    document.body.append(this.probe);
    this.read();
    onRecolored(() => this.read());
  }

  read() {
    for (const name of this.names) {
      this.probe.style.setProperty('color', 'var(--' + name + ')');
      this[name] = getComputedStyle(this.probe).color;
    }
  }
}
