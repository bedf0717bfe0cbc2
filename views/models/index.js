// The client side of the article: opens the stream, inserts received rows as copies of a template, and closes
// the stream when the page is left.
var page = document.body;
var rows = document.getElementById('models');
var template = document.getElementById('model');
var toggle = document.getElementById('toggle');
var form = document.getElementById('create');
var nameField = document.getElementById('name');
var newestId = page.dataset.newestId;
var source;

// A tab may stay open for days. The server keeps the same number of rows by default.
var MOST_ROWS = 1000;
// After this time without an answer, the page explains why (milliseconds).
var WORTH_A_WORD = 1000;

var WHO_WAITS = 'The request waits for a thread, or for one of the six connections that a browser opens per host; the page ' +
  'cannot tell which.';
// The words after the tab's name in the title.
var TITLES = { loading: 'connecting', streaming: 'streams', reconnecting: 'reconnects', closed: 'closed' };
var NAME = document.title;

// The pause before the browser reconnects. Scripts cannot read it, so the server renders into this page the
// `retry:` that it sends; the original loop sends none.
var retry = page.dataset.retryMs === '' ? null : Number(page.dataset.retryMs);
var since = performance.now();
var arrived = 0;
var failures = 0;
// The pause after an answer that is not a stream, before the page opens another one (milliseconds; each
// refusal doubles it, up to the longest).
var FIRST_PAUSE = 2000;
var LONGEST_PAUSE = 30000;
var refusals = 0;
var comeBack;
var closedWhy = '';
var closedByHand = false;
var postedAt = null;

function show(state, words, why) {
  // Each failed try restarts the browser's pause.
  if (page.dataset.state !== state || state === 'reconnecting') {
    since = performance.now();
  }
  page.dataset.state = state;
  write('state', words);
  closedWhy = why || '';
  write('toggle', state === 'closed' ? 'Open' : 'Close');
  showInTabStrip(state);
  toggle.setAttribute('aria-label', toggle.textContent + ' the stream');
  tick();
}

// The title, and an icon in the color of the page's own dot. A page that has not loaded can set neither, so its
// tab shows the browser's spinner.
function showInTabStrip(state) {
  var title = NAME + ' · ' + TITLES[state];
  if (document.title === title) {
    return;
  }
  document.title = title;
  var color = getComputedStyle(document.getElementById('state'), '::before').backgroundColor;
  document.querySelector('link[rel=icon]').href = 'data:image/svg+xml,' + encodeURIComponent(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="' + color + '"/></svg>');
}

// Changes only what differs, so that screen readers, selections and focus are not disturbed.
function write(id, text) {
  var element = document.getElementById(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function span(ms) {
  var seconds = Math.floor(ms / 1000);
  var minutes = Math.floor(seconds / 60);
  var hours = Math.floor(minutes / 60);
  if (hours > 0) {
    return hours + ' h ' + minutes % 60 + ' min';
  }
  return minutes > 0 ? minutes + ' min ' + seconds % 60 + ' s' : seconds + ' s';
}

function count(number, one, many) {
  return number + ' ' + (number === 1 ? one : many);
}

// Shows what the page knows about its stream and its form.
function tick() {
  var age = performance.now() - since;
  var unanswered = page.dataset.state === 'loading' ? age : 0;
  var tried = failures > 1 ? '; ' + count(failures - 1, 'try', 'tries') + ' failed' : '';
  var detail = '';
  if (page.dataset.state === 'streaming') {
    detail = 'for ' + span(age) + ', ' + count(arrived, 'row', 'rows') + ' received';
  } else if (page.dataset.state === 'reconnecting' && retry === null) {
    detail = 'the browser reconnects after a pause of its own' + tried;
  } else if (page.dataset.state === 'reconnecting' && age < retry) {
    detail = 'reconnects in about ' + Math.ceil((retry - age) / 1000) + ' s' + tried;
  } else if (page.dataset.state === 'reconnecting') {
    unanswered = age - retry;
    detail = 'reconnects now';
  } else if (page.dataset.state === 'closed') {
    detail = closedWhy;
  }
  if (unanswered >= WORTH_A_WORD) {
    detail += (detail ? '; ' : '') + 'no answer for ' + span(unanswered);
  }
  write('detail', detail);
  write('hint', unanswered >= WORTH_A_WORD ? WHO_WAITS : '');

  var posting = postedAt === null ? 0 : performance.now() - postedAt;
  write('waited', posting >= WORTH_A_WORD ? 'Waiting for ' + span(posting) + '.' : '');
  if (posting >= WORTH_A_WORD) {
    note('No answer yet: the form needs a thread and a connection as well.');
  }
}

function openSource() {
  // The first request has no Last-Event-ID, and it may wait minutes for a thread. The id of the newest
  // rendered row is therefore part of the address.
  var address = (page.dataset.streamsAt ? page.dataset.streamsAt + '/' : '') + 'models/live_stream?last_event_id=' + encodeURIComponent(newestId);
  if (page.dataset.tab) {
    address += '&tab=' + encodeURIComponent(page.dataset.tab);
  }
  clearTimeout(comeBack);
  closedByHand = false;
  failures = 0;
  show('loading', 'connecting');
  source = new EventSource(address);

  source.onopen = function() {
    failures = 0;
    refusals = 0;
    arrived = 0;
    show('streaming', 'streams');
  };

  source.onmessage = function(e) {
    show('streaming', 'streams');
    newestId = e.lastEventId || newestId;
    var models = JSON.parse(e['data']);
    if (models.length == 0) {
      return;
    }
    models.forEach(add);
  };

  source.onerror = function() {
    if (source.readyState === EventSource.CLOSED) {
      // The browser gives up for good after an answer that is not a stream, such as a proxy's 502 while the
      // server restarts. The pause is random, so that pages do not all reconnect together.
      refusals += 1;
      var pause = Math.min(FIRST_PAUSE * Math.pow(2, refusals - 1), LONGEST_PAUSE) * (0.5 + Math.random());
      comeBack = setTimeout(openSource, pause);
      show('closed', 'failed',
        'the answer was not a stream; the page reconnects in ' + Math.ceil(pause / 1000) + ' s');
    } else {
      failures += 1;
      show('reconnecting', 'ended');
    }
  };
}

// Inserts text, never markup, since a name may contain anything.
function add(model) {
  var row = template.content.cloneNode(true);
  var cells = row.querySelectorAll('td');
  cells[0].textContent = model.id;
  cells[1].textContent = model.name;
  cells[2].textContent = model.created_at.slice(0, 10) + ' ' + model.created_at.slice(11, 19);
  rows.prepend(row);
  arrived += 1;
  if (rows.childElementCount > MOST_ROWS) {
    rows.lastElementChild.remove();
  }
}

function closeSource() {
  clearTimeout(comeBack);
  if (typeof source !== 'undefined') {
    var held = page.dataset.state === 'streaming';
    source.close();
    show('closed', 'closed', 'by this page' + (held ? '; its thread is freed once the server notices' : ''));
    console.log('source closed');
  }
}

function note(words, isWrong) {
  write('note', words);
  form.classList.toggle('wrong', Boolean(isWrong));
  nameField.setAttribute('aria-invalid', Boolean(isWrong));
}

// Without JavaScript, this is an ordinary form. With JavaScript, the page and its stream stay open.
form.addEventListener('submit', function(e) {
  e.preventDefault();
  if (postedAt !== null) {
    return;
  }
  postedAt = performance.now();
  note('');
  form.querySelector('button').setAttribute('aria-disabled', 'true');
  fetch(form.action, {
    method: 'POST',
    headers: { accept: 'application/json' },
    body: new URLSearchParams(new FormData(form)),
  }).then(function(answer) {
    return answer.text().then(function(text) {
      if (answer.status !== 201) {
        note('Not created: ' + text.trim() + ' (' + answer.status + ')', true);
        return;
      }
      var model = JSON.parse(text);
      note('Row ' + model.id + ' was created; the streams deliver it.' +
        (page.dataset.state === 'streaming' ? '' : ' This tab shows it once it streams again.'));
      nameField.value = '';
    });
  }).catch(function() {
    note('No answer: the connection ended. If the row was created, a stream will show it.', true);
  }).then(function() {
    postedAt = null;
    form.querySelector('button').removeAttribute('aria-disabled');
    tick();
  });
});

toggle.addEventListener('click', function() {
  if (page.dataset.state === 'closed') {
    openSource();
  } else {
    closeSource();
    closedByHand = true;
  }
});

// Turbolinks fires page:fetch before it fetches the next page. For any other way of leaving, the browser
// fires pagehide, and pageshow when the page returns from its cache.
document.addEventListener('page:fetch', closeSource);
window.addEventListener('pagehide', function() {
  if (!closedByHand) {
    closeSource();
  }
});
window.addEventListener('pageshow', function(e) {
  if (e.persisted && !closedByHand) {
    openSource();
  }
});

// In a frame, only the state and the rows are shown.
if (window.top !== window) {
  document.documentElement.dataset.framed = '';
}
// In a tile of the wall, only the newest row is shown.
if (new URLSearchParams(location.search).get('view') === 'tile') {
  document.documentElement.dataset.view = 'tile';
}
setInterval(tick, 250);
if (page.dataset.before) {
  // Older rows do not change, and new rows belong above the newest one.
  closedByHand = true;
  show('closed', 'no stream', 'only the page of the newest rows has one');
} else {
  toggle.hidden = false;
  openSource();
}
