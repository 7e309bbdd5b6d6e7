// Leads every *.servicebus.windows.net to RELAY_ADDRESS, in this process alone: no /etc/hosts.
// NODE_OPTIONS="--require /path/to/names.js" RELAY_ADDRESS=127.0.0.1 NODE_EXTRA_CA_CERTS=ca.pem node app.js
'use strict';

const dns = require('dns');
const net = require('net');

const address = process.env.RELAY_ADDRESS || '127.0.0.1';
const lookup = dns.lookup;

dns.lookup = function (name, options, callback) {
  if (!name.endsWith('.servicebus.windows.net')) {
    return lookup.apply(dns, arguments);
  }
  const answer = typeof options === 'function' ? options : callback;
  const family = net.isIPv6(address) ? 6 : 4;
  process.nextTick(() => (options && options.all)
    ? answer(null, [{ address, family }])
    : answer(null, address, family));
};
