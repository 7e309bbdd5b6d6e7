// A listener as hyco-https's README shows it. What it answers depends on the path behind its own.
'use strict';

const https = require('hyco-https');
const { commands, emit, key, namespace, path, pattern, rule, summary } = require('./lines');

const BINARY = { 'Content-Type': 'application/octet-stream' };

const answers = {
  // The same body back, and what the request was.
  echo: (request, response, body) => {
    response.writeHead(200, { 'Content-Type': request.headers['content-type'] || 'text/plain',
      'X-Method': request.method, 'X-Url': request.url });
    response.end(body);
  },
  // n bytes at once.
  size: (request, response, body, query) => {
    response.writeHead(200, BINARY);
    response.end(pattern(Number(query.get('n'))));
  },
  // n bytes, each by a write of its own.
  bytes: (request, response, body, query) => {
    response.writeHead(200, BINARY);
    const bytes = pattern(Number(query.get('n')));
    for (let i = 0; i < bytes.length; i++) {
      response.write(bytes.subarray(i, i + 1));
    }
    response.end();
  },
  status: (request, response, body, query) => {
    response.writeHead(Number(query.get('code')), query.get('reason') || undefined, {});
    response.end();
  },
  headers: (request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json', "X-Odd!#$%&'*+-.^_`|~": '"\'(),/:;<=>?@[\\]{}' });
    response.end(JSON.stringify(request.headers));
  },
};

const uri = https.createRelayListenUri(namespace, path);
const server = https.createRelayedServer(
  { server: uri, token: () => https.createRelayToken(uri, rule, key) },
  (request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
    request.on('end', () => {
      const url = new URL(request.url, 'https://listener');
      const body = Buffer.concat(chunks);
      emit('request', Object.assign({ method: request.method, url: request.url }, summary(body)));
      answers[url.pathname.split('/').pop()](request, response, body, url.searchParams);
    });
  });

server.on('listening', () => emit('listening'));
server.on('error', (error) => emit('error', { message: error.message }));
server.on('close', () => emit('left'));
server.listen();
commands({ stop: () => server.close() });
