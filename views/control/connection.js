// Shows the state of the feed in the corner of the page, since old numbers must not look current.
function showConnection(feed) {
  const words = {
    connecting: 'connecting', live: 'live', silent: 'the control server is silent: this page is out of date',
    lost: 'connection lost, trying again: this page is out of date',
    refused: 'refused: too many pages watch, the token is wrong, or a proxy answers; trying again',
  };
  const place = document.querySelector('#connection [role="status"]');
  const show = () => {
    if (document.body.dataset.connection !== feed.connection) {
      document.body.dataset.connection = feed.connection;
      place.textContent = words[feed.connection];
    }
  };
  feed.on(show);
  show();
}
