// Triton is asked: the model that the split chooses, and how long that takes.

const MODEL = 'recommender';

// What the model says that this request falls to. A canary that is not loaded costs nobody an answer: the active
// release is asked then. `ask` takes a model's name and promises an answer; `missing` tells that it is not loaded.
async function asked(r, ask, missing, since) {
    const model = r.variables.model;
    const got = await timed(r, model, ask, since);
    if (model != MODEL && missing(got)) {
        return await timed(r, MODEL, ask, seconds(r));
    }
    return got;
}

async function timed(r, model, ask, since) {
    r.variables.asked_model = model;
    const got = await ask(model);
    const tries = String(got.variables.upstream_response_time || '').split(', ');
    const until = tries.reduce((sum, one) => sum + (Number(one) || 0), since);
    r.variables.triton_s = Math.max(until, seconds(r)).toFixed(3);  // of questions at once the slowest counts
    return got;
}

// Over HTTP.
function missing(got) {
    return got.status == 404;
}

// Behind the gateway, of this request so far.
function seconds(r) {
    return Number(r.variables.triton_s);
}

export default {MODEL, asked, missing, seconds};
