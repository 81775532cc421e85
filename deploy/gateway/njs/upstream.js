// Asks Triton's model that the split chooses, and measures the time.

const MODEL = 'recommender';

// Returns the answer of the model that the split chose. If that is a canary that is not loaded, the active release is
// asked, so no caller loses an answer. `ask` takes a model's name and promises an answer; `missing` tells whether the
// model is not loaded.
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
    r.variables.triton_s = Math.max(until, seconds(r)).toFixed(3);  // the slowest of parallel queries counts
    return got;
}

// Tells whether the model is not loaded, by its answer over HTTP.
function missing(got) {
    return got.status == 404;
}

// Returns the seconds that this request has waited for Triton so far.
function seconds(r) {
    return Number(r.variables.triton_s);
}

export default {MODEL, asked, missing, seconds};
