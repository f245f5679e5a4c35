// Checks docs/asyncapi.yaml with the parser of AsyncAPI: the file must be a document of version 3.0 without an error,
// and equal the JSON document from which it was made. tests/tests/contracts checks the examples in the file.
//
//     node asyncapi.mjs YAML JSON     in the folder that has node_modules

import { deepStrictEqual } from "node:assert";
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import { load } from "js-yaml";

const ERROR = 0;
const [yaml, json] = process.argv.slice(2).map((path) => readFileSync(path, "utf8"));
deepStrictEqual(load(yaml), JSON.parse(json));
const { document, diagnostics } = await new Parser().parse(yaml);
for (const { severity, path, message } of diagnostics) {
  console.log(`${severity === ERROR ? "error" : "note"} at ${path.join(".")}: ${message}`);
}
if (!document || diagnostics.some(({ severity }) => severity === ERROR)) process.exit(1);
console.log(`AsyncAPI ${document.version()}: ${document.allMessages().length} messages`);
