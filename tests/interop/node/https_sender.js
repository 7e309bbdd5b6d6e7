// Sends HTTP requests with hyco-https's `request` and a token of its making.
'use strict';

const https = require('hyco-https');
const { commands, emit, key, namespace, path, pattern, rule, summary } = require('./lines');

// One connection, kept alive: a second request goes where the first went.
const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });

const send = (command) => {
  const headers = Object.assign({
    ServiceBusAuthorization:
      https.createRelayToken(https.createRelayHttpsUri(namespace, path), rule, key),
  }, command.headers);
  const request = https.request({
    hostname: namespace,
    port: 443,
    path: '/' + path + (command.target || ''),
    method: command.method,
    headers,
    agent: command.together ? undefined : agent,
  }, (response) => {
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('end', () => {
      const body = Buffer.concat(chunks);
      emit('response', Object.assign({
        id: command.id,
        status: response.statusCode,
        reason: response.statusMessage,
        headers: response.headers,
        text: body.length <= 4096 ? body.toString('latin1') : undefined,
      }, summary(body)));
    });
    response.on('error', (error) => emit('failed', { id: command.id, message: error.message }));
  });
  request.on('error', (error) => emit('failed', { id: command.id, message: error.message }));
  const write = () => {
    const body = pattern(command.size || 0);
    const step = command.step || body.length || 1;
    for (let at = 0; at < body.length; at += step) {
      request.write(body.subarray(at, at + step));
    }
    request.end();
  };
  if (headers.Expect) {
    request.on('continue', write);
    request.flushHeaders();
  } else {
    write();
  }
};

commands({ send, together: (command) => command.requests.forEach(send) });
