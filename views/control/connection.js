// Says in the page's corner how the feed fares: numbers that are old must not look new.
function showConnection(feed) {
  const words = {
    connecting: 'connecting', live: 'live', silent: 'no word from the control server: what is shown is old',
    lost: 'connection lost, trying again: what is shown is old', refused: 'refused: too many pages watch, the token is wrong, or a proxy answers; trying again',
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
