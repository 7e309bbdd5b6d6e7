// A listener as hyco-https's README shows it. What it answers depends on the path behind its own.
'use strict';

const https = require('hyco-https');
const { commands, emit, key, namespace, path, pattern, rule, summary } = require('./lines');

// hyco-https loses headers that are given to writeHead alone, and never answers end(nothing at all).
const answer = (response, headers, body) => {
  for (const [name, value] of Object.entries(headers)) {
    response.setHeader(name, value);
  }
  if (body && body.length) {
    response.end(body);
  } else {
    response.end();
  }
};

const BINARY = { 'Content-Type': 'application/octet-stream' };

const answers = {
  // The same body back, and what the request was.
  echo: (request, response, body) => answer(response, {
    'Content-Type': 'application/octet-stream', 'X-Method': request.method, 'X-Url': request.url,
  }, body),
  // n bytes at once.
  size: (request, response, body, query) =>
    answer(response, BINARY, pattern(Number(query.get('n')))),
  // n bytes, each by a write of its own.
  bytes: (request, response, body, query) => {
    const bytes = pattern(Number(query.get('n')));
    for (let i = 0; i < bytes.length; i++) {
      response.write(bytes.subarray(i, i + 1));
    }
    response.end();
  },
  status: (request, response, body, query) => {
    response.writeHead(Number(query.get('code')), query.get('reason') || undefined);
    response.end();
  },
  headers: (request, response) => answer(response, {
    'Content-Type': 'application/json', "X-Odd!#$%&'*+-.^_`|~": '"\'(),/:;<=>?@[\\]{}',
  }, Buffer.from(JSON.stringify(request.headers))),
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
