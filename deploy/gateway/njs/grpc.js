// ModelInfer over gRPC: the message is read as far as to know that it asks the recommender, in the one form.

import answers from 'answers.js';
import form from 'form.js';

const MODEL = 'recommender';
const REQUEST = {1: 'model_name', 2: 'model_version', 3: 'id', 4: 'parameters', 5: 'inputs', 6: 'outputs', 7: 'raw'};
const TENSOR = {1: 'name', 2: 'datatype', 3: 'shape', 4: 'parameters', 5: 'contents'};
const MANY = ['inputs', 'raw'];

function refuse(text) {
    answers.refuse(400, text);
}

function grpc(r) {
    let count;
    try {
        count = count_of(r.requestBuffer || Buffer.alloc(0));
    } catch (e) {
        r.headersOut['Content-Type'] = 'application/grpc';
        r.headersOut['grpc-status'] = '3';  // INVALID_ARGUMENT
        r.headersOut['grpc-message'] = answers.told(r, e).replace(/[^ -~]|%/g, '?');
        r.return(200, '');
        return;
    }
    r.variables.asked_model = MODEL;
    r.internalRedirect(count == 1 ? '@one_query' : '@many_queries');
}

function count_of(body) {
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
    return form.queries(inputs);
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

export default {infer: grpc};
