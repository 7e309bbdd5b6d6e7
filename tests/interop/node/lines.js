// One JSON object a line: commands come on standard input, events go to standard output.
'use strict';

const crypto = require('crypto');
const readline = require('readline');

exports.namespace = process.env.SB_HC_NAMESPACE;
exports.path = process.env.SB_HC_PATH;
exports.rule = process.env.SB_HC_KEYRULE;
exports.key = process.env.SB_HC_KEY;

exports.emit = (event, fields) => {
  process.stdout.write(JSON.stringify(Object.assign({ event }, fields)) + '\n');
};

exports.commands = (handlers) => {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const command = JSON.parse(line);
    handlers[command.do](command);
  });
  lines.on('close', () => process.exit(0));
};

// What a body or message was, without its bytes.
exports.summary = (data) => ({
  size: data.length,
  sha256: crypto.createHash('sha256').update(data).digest('hex'),
});

// `size` bytes that differ from place to place; the same as tests.interop.programs.pattern.
exports.pattern = (size) => {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) {
    bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  }
  return bytes;
};
