// Triton's V2 protocol with binary tensors over HTTP, as cesta_client sends it. The gateway writes the JSON before the
// tensors again, so that Triton reads exactly what was checked.

import answers from 'answers.js';
import form from 'form.js';
import upstream from 'upstream.js';

function refuse(text) {
    answers.refuse(400, text);
}

function http(r) {
    try {
        r.internalRedirect(form.queries(read(r).head.inputs) == 1 ? '@one_query' : '@many_queries');
    } catch (e) {
        answers.failed(r, e.status ? e : answers.refusal(400, 'the request is not V2 with binary tensors'));
    }
}

async function forward(r) {
    try {
        await infer(r, read(r));
    } catch (e) {
        answers.failed(r, e);
    }
}

async function infer(r, request) {
    const head = Buffer.from(JSON.stringify(request.head));
    const body = Buffer.concat([head, request.tensors]);
    r.variables.head_bytes = String(head.length);
    const ask = () => r.subrequest('/_infer', {method: 'POST', body: body});
    const got = await upstream.asked(r, ask, upstream.missing, 0);
    const length = got.headersOut['Inference-Header-Content-Length'];
    if (got.status != 200 || !length) {
        const words = answers.read(got.responseText).error;
        answers.refuse_as(got, got.status, words, '', 'the tensors cannot be read');
    }
    r.variables.release = JSON.parse(got.responseBuffer.toString('utf8', 0, Number(length))).model_version;
    r.headersOut['Inference-Header-Content-Length'] = length;
    r.headersOut['Content-Type'] = 'application/octet-stream';
    r.return(200, got.responseBuffer);
}

function read(r) {
    const body = r.requestBuffer || Buffer.alloc(0);
    const size = Number(r.headersIn['Inference-Header-Content-Length'] || NaN);
    if (!(size > 1 && size <= body.length)) {
        refuse('Inference-Header-Content-Length is not the length of the JSON before binary tensors');
    }
    const given = JSON.parse(body.toString('utf8', 0, size));
    r.variables.message_id = typeof given.id == 'string' ? given.id : '';
    const inputs = given.inputs.map((tensor) => ({
        name: tensor.name,
        shape: tensor.shape,
        datatype: tensor.datatype,
        parameters: {binary_data_size: tensor.parameters.binary_data_size},
    }));
    if (given.outputs || given.inputs.some((tensor) => tensor.data !== undefined)) {
        refuse('outputs and data must be left out; every output comes, and data is binary');
    }
    if (!inputs.every((tensor) => Number.isInteger(tensor.parameters.binary_data_size))) {
        refuse('every input needs its binary_data_size');
    }
    const head = {id: r.variables.id, inputs: inputs, parameters: {binary_data_output: true}};
    return {head: head, tensors: body.slice(size)};
}

export default {http, forward};
