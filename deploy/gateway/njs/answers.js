// What goes back to a caller, and what Triton's answer means to one.

const SENTENCE = /^(?:\[request id: [^\]]*\] )?in ensemble '[^']*', ((?:unknown category|basket|exclude|categories|user_id) .*)$/;

function refusal(status, text) {
    return {status: status, message: text};  // no Error: njs 0.7.9 takes 0.8 ms to carry one through an await
}

function refuse(status, text) {
    throw refusal(status, text);
}

function reply(r, status, body) {
    body.request_id = r.variables.id;
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

// The text of an error for the caller; one that was not meant for him goes into the request log.
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

// Refuses in our words, but for the sampler's: those are about the request. `words` are Triton's; `unread` is said of
// a request that Triton itself could not read, if a caller can be at fault for that.
function refuse_as(got, status, words, where, unread) {
    const sentence = status == 400 && SENTENCE.exec(words);
    if (sentence) {
        refuse(400, where + sentence[1]);
    }
    if (status == 400 && unread) {
        refuse(400, unread);
    }
    const full = status == 502 && /^triton/.test(got.variables.upstream_addr);  // a group's name: no connection was free
    if (full || status == 503) {  // Triton's own: a queue with a bound, a release that is not ready
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
