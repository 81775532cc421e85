// Identifies the caller. Keys have 256 random bits, so one SHA-256 hides them well, and the time of a lookup by hash
// tells an attacker nothing. nginx's own map does the lookup.

import crypto from 'crypto';

const BEARER = /^Bearer +([A-Za-z0-9_-]{20,100})$/i;

function key_hash(r) {
    const given = BEARER.exec(r.headersIn.Authorization || '');
    return given ? crypto.createHash('sha256').update(given[1]).digest('hex') : '';
}

export default {key_hash};
