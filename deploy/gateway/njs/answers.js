// Answers to callers, and the meaning of Triton's answers for them.

const SENTENCE = /^(?:\[request id: [^\]]*\] )?in ensemble '[^']*', ((?:unknown category|basket|exclude|categories|user_id) .*)$/;

function refusal(status, text) {
    return {status: status, message: text};  // not an Error: njs 0.7.9 takes 0.8 ms to carry one through an await
}

function refuse(status, text) {
    throw refusal(status, text);
}

function reply(r, status, body) {
    body.request_id = r.variables.id;
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

// Returns the text of an error for the caller. The text of an unexpected error goes into the request log instead.
function told(r, error) {
    if (error.status) {
        return error.message;
    }
    r.variables.trouble = error.stack || error.message;
    return 'the gateway failed';
}

function failed(r, error) {
    reply(r, error.status || 500, {error: told(r, error)});
}

// Refuses with a sentence of the gateway. Only the sampler's sentences are passed on, because they describe the
// request. `words` come from Triton. `unread` is the sentence for a request that Triton itself cannot read, if a caller
// can cause that.
function refuse_as(got, status, words, where, unread) {
    const sentence = status == 400 && SENTENCE.exec(words);
    if (sentence) {
        refuse(400, where + sentence[1]);
    }
    if (status == 400 && unread) {
        refuse(400, unread);
    }
    const full = status == 502 && /^triton/.test(got.variables.upstream_addr);  // an upstream group's name: no free connection
    if (full || status == 503) {  // 503 comes from Triton: a full queue, or a release that is not ready
        refuse(503, 'the recommender is full or not ready; try again later');
    }
    if (status == 504) {
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

export default {refuse, refusal, reply, told, failed, refuse_as, read};
