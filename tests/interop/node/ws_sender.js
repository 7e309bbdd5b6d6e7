// A sender as hyco-ws's README shows it, told on standard input what to send.
'use strict';

const WebSocket = require('hyco-ws');
const { commands, emit, key, namespace, path, pattern, rule, summary } = require('./lines');

let socket;

const follow = (opened) => {
  socket = opened;
  socket.on('open', () => emit('open', { protocol: socket.protocol || '' }));
  socket.on('message', (data, flags) => emit('message', Object.assign(
    { type: flags.binary ? 'binary' : 'text' }, summary(Buffer.from(data)))));
  socket.on('close', (code, reason) => emit('closed', { code, reason }));
  socket.on('error', (error) => emit('error', { message: error.message }));
};

commands({
  open: (command) => {
    const uri = WebSocket.createRelaySendUri(namespace, path + (command.suffix || ''));
    const token = command.anonymous ? null : WebSocket.createRelayToken(uri, rule, key);
    follow(command.protocols
      ? new WebSocket(uri, command.protocols, { headers: { ServiceBusAuthorization: token } })
      : WebSocket.relayedConnect(uri, token));
  },
  text: (command) => socket.send(command.text),
  binary: (command) => socket.send(pattern(command.size)),
  close: (command) => socket.close(command.code, command.reason),
});
