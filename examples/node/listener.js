'use strict';

// On-premises: answers with the article of the order whose number comes. Opens no port.
const WebSocket = require('hyco-ws');
const relay = require('./connection_string')(process.env.LISTEN);

const articles = { 1: 'pallet of bolts', 2: 'conveyor belt' };
const uri = WebSocket.createRelayListenUri(relay.host, relay.path);

const server = WebSocket.createRelayedServer(
  { server: uri, token: () => WebSocket.createRelayToken(uri, relay.rule, relay.key) },
  (socket) => {
    socket.on('message', (number) => socket.send(articles[number] || 'no such order'));
  });

server.on('listening', () => console.log('online'));
server.on('error', (error) => console.error(error.message));
