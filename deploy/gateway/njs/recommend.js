// POST /v1/recommend and /v1/recommend/batch: they translate a shop's JSON into requests for Triton's generate.

import answers from 'answers.js';
import upstream from 'upstream.js';

const LISTS = ['basket', 'exclude', 'categories'];
const EMPTY = [''];  // padding, not an id
const KNOWN = LISTS.concat(['user_id', 'k']);
const MAX_K = 20;
const MAX_QUERIES = 32;
const AT_ONCE = 8;  // queries of one batch, so that a few batches do not fill the server
const LAST_ASKED_MS = 2000;  // after a batch arrives; a query sent then may take 2 s more, so no batch takes over 4 s
const REASONS = ['usual', 'together', 'similar', 'popular', 'category'];  // in the order of their bits

async function one(r) {
    await answered(r, async (body) => await ask(r, question(body, ''), body, '', 0));
}

async function many(r) {
    await answered(r, async (body) => {
        const queries = listed(body);
        const questions = queries.map((query, place) => question(query, `queries[${place}]: `));
        const until = Date.now() + LAST_ASKED_MS;
        let found = [];
        for (let start = 0; start < queries.length; start += AT_ONCE) {
            if (Date.now() > until) {
                answers.refuse(504, 'the recommender took too long; send fewer queries at once');
            }
            const part = questions.slice(start, start + AT_ONCE);
            const since = upstream.seconds(r);
            const asked = part.map((q, n) => ask(r, q, queries[start + n], `queries[${start + n}]: `, since));
            const answered_now = await Promise.all(asked);
            found = found.concat(answered_now);
        }
        return {answers: found};
    });
}

// ---- the request

function refuse(text) {
    answers.refuse(400, text);
}

function parsed(r) {
    let text;
    try {
        text = new TextDecoder('utf-8', {fatal: true}).decode(r.requestBuffer || new Uint8Array(0));
    } catch (e) {
        refuse('the body is not UTF-8');
    }
    try {
        return JSON.parse(text);
    } catch (e) {
        refuse(`the body is not JSON: ${e.message}`);
    }
}

function kind(value) {
    if (value === null) {
        return 'null';
    }
    return Array.isArray(value) ? 'a list' : typeof value == 'object' ? 'an object' : `a ${typeof value}`;
}

function only(body, known, where) {
    if (kind(body) != 'an object') {
        refuse(`${where}an object such as {"${known[0]}": [...]} is wanted; got ${kind(body)}`);
    }
    const strange = Object.keys(body).find((key) => !known.includes(key));
    if (strange !== undefined) {
        refuse(`${where}unknown key "${strange.slice(0, 40)}"; known are ${known.join(', ')}`);
    }
}

function listed(body) {
    only(body, ['queries'], '');
    const queries = body.queries;
    if (!Array.isArray(queries)) {
        refuse(`queries is a list of queries; got ${kind(queries)}`);
    }
    if (queries.length < 1 || queries.length > MAX_QUERIES) {
        refuse(`queries has ${queries.length} entries; 1 to ${MAX_QUERIES} are allowed`);
    }
    return queries;
}

// Returns the body for generate: ids sorted, unique and not empty, because the response cache compares bytes.
function question(body, where) {
    only(body, KNOWN, where);
    const asked = {};
    LISTS.forEach((name) => {
        const ids = sorted(body[name], where + name);
        if (ids.length) {
            asked[name] = ids;
        }
    });
    const user = body.user_id;
    if (user !== undefined && user !== null && typeof user != 'string') {
        refuse(`${where}user_id is a string; got ${kind(user)}`);
    }
    // Both are always sent, even if empty: Triton batches only requests with the same inputs.
    asked.basket = asked.basket || EMPTY;
    asked.user_id = user || '';
    if (body.k !== undefined && !(Number.isInteger(body.k) && body.k >= 1 && body.k <= MAX_K)) {
        const got = typeof body.k == 'number' ? String(body.k) : JSON.stringify(body.k);  // JSON.stringify would show 1e400 as null
        refuse(`${where}k is a whole number from 1 to ${MAX_K}; got ${got.slice(0, 40)}`);
    }
    return asked;
}

function sorted(ids, name) {
    if (ids === undefined || ids === null) {
        return [];
    }
    if (!Array.isArray(ids)) {
        refuse(`${name} is a list of strings; got ${kind(ids)}`);
    }
    const wrong = ids.findIndex((id) => typeof id != 'string');
    if (wrong >= 0) {
        refuse(`${name} holds ${kind(ids[wrong])}; ids are strings`);
    }
    return ids.sort().filter((id, place, all) => id != '' && id != all[place - 1]);
}

// ---- the answer

async function answered(r, work) {
    try {
        const body = await work(parsed(r));  // a line of its own: njs 0.7.9 crashes on an await among arguments
        answers.reply(r, 200, body);
    } catch (e) {
        answers.failed(r, e);
    }
}

async function ask(r, asked, query, where, since) {
    asked.id = r.variables.id;
    const body = JSON.stringify(asked);
    const generate = () => r.subrequest('/_generate', {method: 'POST', body: body});
    const got = await upstream.asked(r, generate, upstream.missing, since);
    const said = answers.read(got.responseText);
    if (got.status == 200 && said.item_ids) {
        r.variables.release = said.model_version;
        return {release: Number(said.model_version), items: items(said, query.k || 10)};
    }
    return answers.refuse_as(got, got.status, said.error, where);
}

function items(answer, k) {
    const found = [];
    for (let n = 0; n < answer.item_ids.length && found.length < k; n++) {
        if (answer.item_ids[n] != '') {  // padding
            const reasons = REASONS.filter((_, bit) => answer.reasons[n] & (1 << bit));
            found.push({item_id: answer.item_ids[n], score: answer.scores[n], reasons: reasons});
        }
    }
    return found;
}

export default {one, many};
