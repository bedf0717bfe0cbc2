// The seed's piece of the puzzle on the client side: open the stream, put what
// arrives into copies of a template, close the stream when the page is left.
var page = document.body;
var rows = document.getElementById('models');
var template = document.getElementById('model');
var newestId = page.dataset.newestId;
var source;

// A tab may stay open for days; the server keeps as many, unless told otherwise.
var MOST_ROWS = 1000;

function show(state, words) {
  page.dataset.state = state;
  document.getElementById('state').textContent = words;
}

function openSource() {
  // A page's own first request carries no Last-Event-ID, and it may wait minutes
  // for a thread: what was rendered last goes along in the address.
  var address = 'models/live_stream?last_event_id=' + encodeURIComponent(newestId);
  if (page.dataset.tab) {
    address += '&tab=' + encodeURIComponent(page.dataset.tab);
  }
  show('loading', 'waiting for a thread');
  source = new EventSource(address);

  source.onopen = function() {
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
      show('closed', 'the stream failed for good');
    } else {
      show('reconnecting', 'the stream ended; coming back');
    }
  };
}

// As text, never as markup: a model's name may hold anything.
function add(model) {
  var row = template.content.cloneNode(true);
  var cells = row.querySelectorAll('td');
  cells[0].textContent = model.id;
  cells[1].textContent = model.name;
  cells[2].textContent = model.created_at;
  rows.prepend(row);
  if (rows.childElementCount > MOST_ROWS) {
    rows.lastElementChild.remove();
  }
}

function closeSource() {
  if (typeof source !== 'undefined') {
    source.close();
    show('closed', 'closed');
    console.log('source closed');
  }
}

// Turbolinks says this before it fetches the next page; a page that is left in
// any other way says pagehide, and comes back out of the browser's cache by pageshow.
document.addEventListener('page:fetch', closeSource);
window.addEventListener('pagehide', closeSource);
window.addEventListener('pageshow', function(e) {
  if (e.persisted) {
    openSource();
  }
});

openSource();
