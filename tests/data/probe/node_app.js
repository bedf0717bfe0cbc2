// A stream that writes an event per second, and a page that answers immediately. Argument: the port.
const http = require('http');

http.createServer((request, response) => {
  if (request.url.split('?')[0] !== '/stream') {
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': 3 });
    response.end('up\n');
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  let n = 0;
  const tick = () => response.write(`data: ${++n}\n\n`);
  tick();
  const timer = setInterval(tick, 1000);
  response.on('close', () => clearInterval(timer));
}).listen(Number(process.argv[2]), '127.0.0.1');
