'use strict';

// In the cloud: asks for the order that the command line names, and ends.
const WebSocket = require('hyco-ws');
const relay = require('./connection_string')(process.env.SEND);

const uri = WebSocket.createRelaySendUri(relay.host, relay.path);
const socket = WebSocket.relayedConnect(
  uri, WebSocket.createRelayToken(uri, relay.rule, relay.key));

socket.on('open', () => socket.send(process.argv[2]));
socket.on('message', (article) => {
  console.log(article);
  socket.close();
});
socket.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
