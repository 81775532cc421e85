// Accepts only the form of tensors that cesta_client writes. Triton's cache compares the bytes of inputs and not their
// shapes, so another form of the same bytes would spoil other callers' answers. Tensors of numbers can end the whole
// server.

import answers from 'answers.js';

const INPUTS = ['basket', 'user_id', 'exclude', 'categories'];
const MAX_QUERIES = 64;
const MAX_IDS = 1200;  // a column's width, with padding and repetitions; the sampler counts the remaining ids

function refuse(text) {
    answers.refuse(400, text);
}

// Returns the number of queries in the inputs. Refuses any other form.
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

export default {queries};
