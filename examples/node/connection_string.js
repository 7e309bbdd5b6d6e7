'use strict';

// Reads Endpoint=sb://HOST/;SharedAccessKeyName=...;SharedAccessKey=...;EntityPath=...
module.exports = (text) => {
  const fields = {};
  for (const part of text.split(';').filter(Boolean)) {
    const equals = part.indexOf('=');
    fields[part.slice(0, equals)] = part.slice(equals + 1);
  }
  return {
    host: new URL(fields.Endpoint.replace('sb://', 'https://')).hostname,
    path: fields.EntityPath,
    rule: fields.SharedAccessKeyName,
    key: fields.SharedAccessKey,
  };
};
