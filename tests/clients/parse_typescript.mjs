// Parses answers with a client of openapi-zod-client: node parse_typescript.mjs < answers; prints what failed.
import { readFileSync } from "node:fs";
import { api } from "./client.js";

const failed = {};
for (const answer of JSON.parse(readFileSync(0, "utf8"))) {
  const path = answer.path.replace(/\{(\w+)\}/g, ":$1");
  const endpoint = api.api.find((each) => each.path === path && each.method === answer.method);
  const good = answer.status < 300;
  const schema = good ? endpoint.response : endpoint.errors.find((each) => each.status === answer.status)?.schema;
  const parsed = schema.safeParse(answer.body);
  if (!parsed.success) {
    failed[`${answer.operation} ${answer.status}`] = JSON.stringify(parsed.error.issues).slice(0, 200);
  }
}
console.log(JSON.stringify(failed));
