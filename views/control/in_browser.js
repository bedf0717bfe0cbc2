// Reports to the control server how many frames of this page wait for a connection. The browser
// holds their requests back, so they are not in the record.
const SAY_EVERY_MS = 1000;
let saidFrames = 0;
setInterval(() => {
  const waiting = document.querySelectorAll('[data-state="waiting-for-socket"]').length;
  if (waiting || saidFrames) {
    saidFrames = waiting;
    order('/lab/frames?waiting=' + waiting);
  }
}, SAY_EVERY_MS);
