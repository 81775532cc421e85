// POST /v1/recommend and /v1/recommend/batch: a shop's JSON in and out, Triton's generate behind it.

const LISTS = ['basket', 'exclude', 'categories'];
const KNOWN = LISTS.concat(['user_id', 'k']);
const MAX_K = 20;
const MAX_QUERIES = 32;
const AT_ONCE = 8;  // of one batch, so that few batches do not fill the server
const REASONS = ['usual', 'together', 'similar', 'popular', 'category'];  // bit by bit
const SENTENCE = /^(?:\[request id: [^\]]*\] )?in ensemble '[^']*', ((?:unknown category|basket|exclude|categories|user_id) .*)$/;

async function one(r) {
    await answered(r, async (body) => await ask(r, question(body, ''), body));
}

async function many(r) {
    await answered(r, async (body) => {
        const queries = listed(body);
        const questions = queries.map((query, place) => question(query, `queries[${place}]: `));
        let answers = [];
        for (let start = 0; start < queries.length; start += AT_ONCE) {
            const part = questions.slice(start, start + AT_ONCE);
            const found = await Promise.all(part.map((q, n) => ask(r, q, queries[start + n], `queries[${start + n}]: `)));
            answers = answers.concat(found);
        }
        return {answers: answers};
    });
}

// ---- the request

function refuse(status, text) {
    const error = new Error(text);
    error.status = status;
    throw error;
}

function parsed(r) {
    let text;
    try {
        text = new TextDecoder('utf-8', {fatal: true}).decode(r.requestBuffer || new Uint8Array(0));
    } catch (e) {
        refuse(400, 'the body is not UTF-8');
    }
    try {
        return JSON.parse(text);
    } catch (e) {
        refuse(400, `the body is not JSON: ${e.message}`);
    }
}

function kind(value) {
    return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function only(body, known, where) {
    if (kind(body) != 'an object') {
        refuse(400, `${where}an object such as {"${known[0]}": [...]} is wanted; got ${kind(body)}`);
    }
    const strange = Object.keys(body).find((key) => !known.includes(key));
    if (strange !== undefined) {
        refuse(400, `${where}unknown key "${strange.slice(0, 40)}"; known are ${known.join(', ')}`);
    }
}

function listed(body) {
    only(body, ['queries'], '');
    const queries = body.queries;
    if (!Array.isArray(queries)) {
        refuse(400, `queries is a list of queries; got ${kind(queries)}`);
    }
    if (queries.length < 1 || queries.length > MAX_QUERIES) {
        refuse(400, `queries has ${queries.length} entries; 1 to ${MAX_QUERIES} are allowed`);
    }
    return queries;
}

// What generate is asked: sorted, unique, nothing empty, since the response cache compares bytes.
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
        refuse(400, `${where}user_id is a string; got ${kind(user)}`);
    }
    if (user) {
        asked.user_id = user;
    }
    if (body.k !== undefined && !(Number.isInteger(body.k) && body.k >= 1 && body.k <= MAX_K)) {
        refuse(400, `${where}k is a whole number from 1 to ${MAX_K}; got ${JSON.stringify(body.k).slice(0, 40)}`);
    }
    return Object.keys(asked).length ? asked : {basket: ['']};  // Triton refuses a request without inputs
}

function sorted(ids, name) {
    if (ids === undefined || ids === null) {
        return [];
    }
    if (!Array.isArray(ids)) {
        refuse(400, `${name} is a list of strings; got ${kind(ids)}`);
    }
    const wrong = ids.findIndex((id) => typeof id != 'string');
    if (wrong >= 0) {
        refuse(400, `${name} holds ${kind(ids[wrong])}; ids are strings`);
    }
    return ids.sort().filter((id, place, all) => id != '' && id != all[place - 1]);
}

// ---- the answer

async function answered(r, work) {
    try {
        const body = await work(parsed(r));
        body.request_id = r.variables.id;
        reply(r, 200, body);
    } catch (e) {
        if (!e.status) {
            r.error(`recommend.js: ${e.message}`);
        }
        if (e.status == 503 || e.status === 429) {
            r.headersOut['Retry-After'] = '1';
        }
        reply(r, e.status || 500, {error: e.status ? e.message : 'the gateway failed', request_id: r.variables.id});
    }
}

function reply(r, status, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

async function ask(r, asked, query, where) {
    asked.id = r.variables.id;
    r.variables.asked_model = r.variables.model;
    const got = await r.subrequest('/_generate', {method: 'POST', body: JSON.stringify(asked)});
    r.variables.triton_s = got.variables.upstream_response_time;
    const said = got.status == 200 || got.status == 400 ? read(got.responseText) : {};
    if (got.status == 200 && said.item_ids) {
        r.variables.release = said.model_version;
        return {release: Number(said.model_version), items: items(said, query.k || 10)};
    }
    const sentence = SENTENCE.exec(said.error || '');
    if (got.status == 400 && sentence) {
        refuse(400, (where || '') + sentence[1]);
    }
    if (got.status == 502 && got.variables.upstream_addr == 'triton') {  // the group's name: no connection was free
        refuse(503, 'the recommender is full; try again later');
    }
    if (got.status == 504) {
        refuse(504, 'the recommender took too long');
    }
    refuse(502, 'the recommender cannot be reached');
}

function read(text) {
    try {
        return JSON.parse(text) || {};
    } catch (e) {
        return {};
    }
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
