// A listener as hyco-ws's README shows it. Echoes each message; "close 4001 why" makes it close.
'use strict';

const WebSocket = require('hyco-ws');
const { commands, emit, key, namespace, path, rule, summary } = require('./lines');

const uri = WebSocket.createRelayListenUri(namespace, path);
const server = WebSocket.createRelayedServer(
  { server: uri, token: () => WebSocket.createRelayToken(uri, rule, key) },
  (socket) => {
    socket.on('open', () => emit('connection', { protocol: socket.protocol, url: socket.url }));
    socket.on('message', (data, flags) => {
      const asked = !flags.binary && /^close (\d+) (.*)$/.exec(data);
      if (asked) {
        socket.close(Number(asked[1]), asked[2]);
      } else {
        socket.send(data, { binary: flags.binary });
      }
    });
    socket.on('close', (code, reason) => emit('closed', { code, reason }));
  });

server.on('listening', () => emit('listening'));
server.on('error', (error) => emit('error', { message: error.message }));
server.on('close', () => emit('left'));
commands({ stop: () => server.close() });
