// ModelInfer over gRPC. The gateway reads enough of a message to know that it asks the recommender in the accepted
// form, and enough of the answer to know its release.

import answers from 'answers.js';
import form from 'form.js';
import upstream from 'upstream.js';

const REQUEST = {1: 'model_name', 2: 'model_version', 3: 'id', 4: 'parameters', 5: 'inputs', 6: 'outputs', 7: 'raw'};
const TENSOR = {1: 'name', 2: 'datatype', 3: 'shape', 4: 'parameters', 5: 'contents'};
const ANSWER = {1: 'model_name', 2: 'model_version', 3: 'id', 4: 'parameters', 5: 'outputs', 6: 'raw'};
const MANY = ['parameters', 'inputs', 'outputs', 'raw'];
const INVALID_ARGUMENT = '3';
const NOT_FOUND = '5';
const STATUS = {3: 400, 4: 504, 14: 503};  // gRPC status of Triton → HTTP status

function refuse(text) {
    answers.refuse(400, text);
}

function infer(r) {
    let count;
    try {
        count = count_of(r, r.requestBuffer || Buffer.alloc(0));
    } catch (e) {
        r.headersOut['Content-Type'] = 'application/grpc';
        r.headersOut['grpc-status'] = INVALID_ARGUMENT;
        r.headersOut['grpc-message'] = escaped(answers.told(r, e));
        r.return(200, '');
        return;
    }
    r.internalRedirect(count == 1 ? '@one_query' : '@many_queries');
}

async function forward(r) {
    try {
        await answered(r, r.requestBuffer);
    } catch (e) {
        const text = answers.told(r, e);
        if (e.status == 400) {
            said(r, INVALID_ARGUMENT, text, '');
        } else {
            r.return(e.status || 500);  // nginx adds the text
        }
    }
}

async function answered(r, body) {
    const ask = (model) => r.subrequest('/_infer', {method: 'POST', body: addressed(body, model)});
    const got = await upstream.asked(r, ask, (reply) => status_of(reply) == NOT_FOUND, 0);
    const status = status_of(got);
    if (status != '0') {
        const words = trailer(got, 'grpc_message');
        answers.refuse_as(got, STATUS[status] || got.status, unescaped(words), '', 'the tensors cannot be read');
    }
    const answer = got.responseBuffer;
    r.variables.release = text(answer, message(answer, 5, answer.length, ANSWER).model_version);
    said(r, status, '', answer);
}

// Status and text follow the answer as trailers, which the location names.
function said(r, status, words, answer) {
    r.variables.grpc_said = status;
    r.variables.grpc_words = escaped(words);
    r.headersOut['Content-Type'] = 'application/grpc';
    r.return(200, answer);
}

function status_of(got) {
    return trailer(got, 'grpc_status');
}

// Returns a trailer of an answer. Without a message, Triton sends it as a header.
function trailer(got, name) {
    return got.variables[`upstream_trailer_${name}`] || got.variables[`upstream_http_${name}`] || '';
}

// Addresses a message to another model by a second name: in protobuf the last one counts.
function addressed(body, model) {
    if (model == upstream.MODEL) {
        return body;
    }
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length - 5 + 2 + model.length, 1);
    return Buffer.concat([head, body.slice(5), Buffer.from([10, model.length]), Buffer.from(model)]);
}

function count_of(r, body) {
    if (body.length < 5 || body.readUInt32BE(1) != body.length - 5) {
        refuse('one message is wanted');
    }
    if (body[0]) {
        refuse('compressed messages are not read; send it uncompressed');
    }
    const request = message(body, 5, body.length, REQUEST);
    r.variables.message_id = text(body, request.id);
    if (text(body, request.model_name) != upstream.MODEL || request.model_version) {
        refuse(`model "${upstream.MODEL}" is the only one here, without a version`);
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

// Returns the fields of a protobuf message as [start, end], repeated fields as lists. Refuses unknown fields, because
// Triton could read them in a way that was not checked.
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

function varint(bytes, at, end) {  // returns [value, its end]
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

function escaped(words) {
    return words.replace(/[^ -~]|%/g, (one) => encodeURIComponent(one));
}

function unescaped(words) {
    try {
        return decodeURIComponent(words);
    } catch (e) {
        return words;
    }
}

export default {infer, forward};
