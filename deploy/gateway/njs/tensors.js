// Tensors, over gRPC and HTTP, in the one form that cesta_client writes; anything else is refused here. Triton's cache
// compares the bytes of inputs and not their shapes, so another form of the same bytes would spoil other callers'
// answers; other models answer nobody here; and tensors written in JSON can end the whole server.

const MODEL = 'recommender';
const INPUTS = ['basket', 'user_id', 'exclude', 'categories'];
const MAX_QUERIES = 64;
const MAX_IDS = 1200;  // a column's width, padding and repetitions included; the sampler counts what is left

const REQUEST = {1: 'model_name', 2: 'model_version', 3: 'id', 4: 'parameters', 5: 'inputs', 6: 'outputs', 7: 'raw'};
const TENSOR = {1: 'name', 2: 'datatype', 3: 'shape', 4: 'parameters', 5: 'contents'};
const MANY = ['inputs', 'raw'];

function refuse(text) {
    const error = new Error(text);
    error.ours = true;
    throw error;
}

// Refuses inputs of any other form; returns how many queries they hold.
function queries(inputs) {
    if (inputs.length < 1 || inputs.length > INPUTS.length) {
        refuse(`${inputs.length} inputs; 1 to ${INPUTS.length} are allowed`);
    }
    const names = inputs.map((tensor) => tensor.name);
    const count = inputs[0].shape[0];
    inputs.forEach((tensor, place) => {
        if (!INPUTS.includes(tensor.name) || names.indexOf(tensor.name) != place) {
            refuse(`input ${place} has the name "${String(tensor.name).slice(0, 40)}"; each of ${INPUTS.join(', ')} once`);
        }
        if (tensor.datatype != 'BYTES') {
            refuse(`${tensor.name} has another datatype than BYTES`);
        }
        const most = tensor.name == 'user_id' ? 1 : MAX_IDS;
        const width = tensor.shape[1];
        if (tensor.shape.length != 2 || !tensor.shape.every(Number.isInteger) || width < 0 || width > most) {
            refuse(`${tensor.name} has a shape other than [queries, 0 to ${most}]`);
        }
        if (tensor.shape[0] !== count || count < 1 || count > MAX_QUERIES) {
            refuse(`${tensor.name} holds ${tensor.shape[0]} queries; 1 to ${MAX_QUERIES} are allowed, as many in each input`);
        }
    });
    const user = inputs[names.indexOf('user_id')];
    if (user ? user.shape[1] != 1 : count > 1) {
        refuse('several queries need user_id, one each; "" stands for unknown');
    }
    return count;
}

// ---- gRPC

function grpc(r) {
    let count;
    try {
        count = queries_of_message(r.requestBuffer || Buffer.alloc(0));
    } catch (e) {
        if (!e.ours) {
            r.error(`tensors.js: ${e.message}`);
        }
        r.headersOut['Content-Type'] = 'application/grpc';
        r.headersOut['grpc-status'] = '3';  // INVALID_ARGUMENT
        r.headersOut['grpc-message'] = e.ours ? e.message.replace(/[^ -~]|%/g, '?') : 'the request cannot be read';
        r.return(200, '');
        return;
    }
    r.variables.asked_model = MODEL;
    r.internalRedirect(count == 1 ? '@one_query' : '@many_queries');
}

function queries_of_message(body) {
    if (body.length < 5 || body.readUInt32BE(1) != body.length - 5) {
        refuse('one message is wanted');
    }
    if (body[0]) {
        refuse('compressed messages are not read; send it uncompressed');
    }
    const request = message(body, 5, body.length, REQUEST);
    if (text(body, request.model_name) != MODEL || request.model_version) {
        refuse(`model "${MODEL}" is the only one here, without a version`);
    }
    if (request.parameters || request.outputs) {
        refuse('parameters and outputs must be left out; every output comes');
    }
    const inputs = (request.inputs || []).map((at) => {
        const tensor = message(body, at[0], at[1], TENSOR);
        if (tensor.parameters || tensor.contents) {
            refuse('inputs have neither parameters nor contents; send raw_input_contents');
        }
        return {name: text(body, tensor.name), datatype: text(body, tensor.datatype), shape: packed(body, tensor.shape)};
    });
    if ((request.raw || []).length != inputs.length) {
        refuse('raw_input_contents has not one entry per input');
    }
    return queries(inputs);
}

// Fields of a protobuf message as [start, end]; lists of them where they repeat. Refuses what it does not know: a
// field read otherwise by Triton would pass unchecked.
function message(bytes, start, end, names) {
    const found = {};
    for (let at = start; at < end;) {
        const tag = bytes[at];
        const name = names[tag >> 3];
        const size = varint(bytes, at + 1, end);
        const stop = size[1] + size[0];
        if (tag > 127 || (tag & 7) != 2 || !name || stop > end || (found[name] && !MANY.includes(name))) {
            refuse('the message is not a plain ModelInferRequest');
        }
        if (MANY.includes(name)) {
            found[name] = (found[name] || []).concat([[size[1], stop]]);
        } else {
            found[name] = [size[1], stop];
        }
        at = stop;
    }
    return found;
}

function varint(bytes, at, end) {  // [value, where it ends]
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
        if (at >= end) {
            break;
        }
        const byte = bytes[at++];
        value |= (byte & 127) << shift;
        if (byte < 128) {
            return [value, at];
        }
    }
    return refuse('a number of the message is too long');
}

function packed(bytes, at) {
    const numbers = [];
    for (let next = at ? at[0] : 0; at && next < at[1];) {
        const read = varint(bytes, next, at[1]);
        numbers.push(read[0]);
        next = read[1];
    }
    return numbers;
}

function text(bytes, at) {
    return at ? bytes.toString('utf8', at[0], at[1]) : '';
}

export default {grpc};
