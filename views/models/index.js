// The seed's piece of the puzzle on the client side: open the stream, put what
// arrives into copies of a template, close the stream when the page is left.
var page = document.body;
var rows = document.getElementById('models');
var template = document.getElementById('model');
var toggle = document.getElementById('toggle');
var form = document.getElementById('create');
var nameField = document.getElementById('name');
var newestId = page.dataset.newestId;
var source;

// A tab may stay open for days; the server keeps as many, unless told otherwise.
var MOST_ROWS = 1000;
// Sooner than this nobody wonders where an answer is.
var WORTH_A_WORD = 1000;

var WHO_WAITS = 'It may wait for a thread of the server, or for one of the six connections that a browser ' +
  'opens to a host; the page cannot tell which.';

// How long a browser that lost its stream waits before it asks again. It does not tell
// scripts; the server tells this page what it tells browsers, and nothing in the seed's loop.
var retry = page.dataset.retryMs === '' ? null : Number(page.dataset.retryMs);
var since = performance.now();
var arrived = 0;
var failures = 0;
// After an answer that is not a stream, the page waits this long before it opens another one
// (milliseconds; each refusal doubles it, up to the longest).
var FIRST_PAUSE = 2000;
var LONGEST_PAUSE = 30000;
var refusals = 0;
var comeBack;
var closedWhy = '';
var closedByHand = false;
var postedAt = null;

function show(state, words, why) {
  // Each try that fails begins the browser's pause anew.
  if (page.dataset.state !== state || state === 'reconnecting') {
    since = performance.now();
  }
  page.dataset.state = state;
  write('state', words);
  closedWhy = why || '';
  write('toggle', state === 'closed' ? 'Open' : 'Close');
  toggle.setAttribute('aria-label', toggle.textContent + ' the stream');
  tick();
}

// Only what changes, so that what is spoken, selected or looked at stays.
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

// What the page knows of its stream, and of its form, now.
function tick() {
  var age = performance.now() - since;
  var unanswered = page.dataset.state === 'loading' ? age : 0;
  var tried = failures > 1 ? '; ' + count(failures - 1, 'try', 'tries') + ' failed' : '';
  var detail = '';
  if (page.dataset.state === 'streaming') {
    detail = 'for ' + span(age) + ', ' + count(arrived, 'model', 'models') + ' arrived';
  } else if (page.dataset.state === 'reconnecting' && retry === null) {
    detail = 'the browser asks again after a pause of its own' + tried;
  } else if (page.dataset.state === 'reconnecting' && age < retry) {
    detail = 'asking again in about ' + Math.ceil((retry - age) / 1000) + ' s' + tried;
  } else if (page.dataset.state === 'reconnecting') {
    unanswered = age - retry;
    detail = 'was to ask again';
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
    note('No answer yet. ' + WHO_WAITS);
  }
}

function openSource() {
  // A page's own first request carries no Last-Event-ID, and it may wait minutes
  // for a thread: what was rendered last goes along in the address.
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
    show('streaming', 'streaming');
  };

  source.onmessage = function(e) {
    show('streaming', 'streaming');
    newestId = e.lastEventId || newestId;
    var models = JSON.parse(e['data']);
    if (models.length == 0) {
      return;
    }
    models.forEach(add);
  };

  source.onerror = function() {
    if (source.readyState === EventSource.CLOSED) {
      // The browser gives up for good on an answer that is not a stream, such as a proxy's 502
      // while the server restarts. Pages that were refused together do not come back together.
      refusals += 1;
      var pause = Math.min(FIRST_PAUSE * Math.pow(2, refusals - 1), LONGEST_PAUSE) * (0.5 + Math.random());
      comeBack = setTimeout(openSource, pause);
      show('closed', 'stream failed',
        'the answer was not a stream; the page asks again in ' + Math.ceil(pause / 1000) + ' s');
    } else {
      failures += 1;
      show('reconnecting', 'stream ended');
    }
  };
}

// As text, never as markup: a model's name may hold anything.
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
    show('closed', 'closed', 'by this page' + (held ? '; its thread is free once the server has noticed' : ''));
    console.log('source closed');
  }
}

function note(words, isWrong) {
  write('note', words);
  form.classList.toggle('wrong', Boolean(isWrong));
  nameField.setAttribute('aria-invalid', Boolean(isWrong));
}

// Without script the form is sent as any other; with it the page, and its stream, stay.
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
      note('Model ' + model.id + ' was created; the streams bring it.' +
        (page.dataset.state === 'streaming' ? '' : ' This tab shows it once it streams again.'));
      nameField.value = '';
    });
  }).catch(function() {
    note('The connection ended before an answer came. If the model was created, a stream will show it.', true);
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

// Turbolinks says this before it fetches the next page; a page that is left in
// any other way says pagehide, and comes back out of the browser's cache by pageshow.
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

// In a frame there is room for the state and the models.
if (window.top !== window) {
  document.documentElement.dataset.framed = '';
}
setInterval(tick, 250);
if (page.dataset.before) {
  // Older models do not change, and what a stream brings belongs above the newest.
  closedByHand = true;
  show('closed', 'no stream', 'the page of the newest models has one');
} else {
  toggle.hidden = false;
  openSource();
}
