// Asks a live query service with a client whose types are made from docs/openapi.json: rows and problems are typed.
//
//     node client.ts     in the folder that has node_modules, after `tsc`
//
// Needs BOTSTATS_URL, BOTSTATS_TOKEN and BOTSTATS_BOT_KEY, and a query with a throttle window of 1h.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.d.ts";

const { BOTSTATS_URL: baseUrl, BOTSTATS_TOKEN: token, BOTSTATS_BOT_KEY: key = "" } = process.env;
const client = createClient<paths>({ baseUrl });

function ask(bearer: string, apiKey: string, days: number) {
  return client.GET("/analytics/statistics/account/{APIKEY}/{TYPES}/{GROUPMODE}/{DAYS}", {
    params: {
      path: { APIKEY: apiKey, TYPES: [0, 3, 10, 13], GROUPMODE: "day", DAYS: days },
      query: { fill: "zero" },
      header: { "X-Request-Id": "client.1" },
    },
    headers: { Authorization: `Bearer ${bearer}` },
  });
}

async function refused(bearer: string, apiKey: string, days: number, status: number) {
  const { data, error, response } = await ask(bearer, apiKey, days);
  assert.equal(data, undefined);
  assert.ok(error);
  const problem: components["schemas"]["Problem"] = error;
  assert.equal(response.status, status, problem.detail);
  assert.equal(problem.status, status);
  assert.equal(problem.request_id, "client.1");
  return { type: problem.type, retryAfter: Number(response.headers.get("Retry-After")) };
}

assert.ok(token);
assert.ok((await client.GET("/openapi.json")).data);
const unauthorized = await refused("nobody", "*", 7, 401);
assert.equal(unauthorized.type, "urn:botstats:problem:unauthorized");
assert.equal((await refused(token, "*", 31, 400)).type, "urn:botstats:problem:bad-parameter");
assert.equal((await refused(token, "key_of_nobody", 7, 404)).type, "urn:botstats:problem:not-found");

const { data: rows, response } = await ask(token, key, 7);
assert.equal(response.status, 200);
// The answer is JSON and not text of another content type.
assert.ok(Array.isArray(rows) && rows.length > 0);
const received = rows.filter((row) => row.EventType === 13).map((row) => row.Value ?? 0);
assert.equal(received.reduce((sum, value) => sum + value, 0), 1);
assert.ok(rows.every((row) => row.BotId === "b1" && !Number.isNaN(Date.parse(row.GroupStart ?? ""))));

const throttled = await refused(token, "*", 7, 429);
assert.equal(throttled.type, "urn:botstats:problem:throttled");
assert.ok(throttled.retryAfter > 3_000 && throttled.retryAfter <= 3_601, `${throttled.retryAfter}`);
console.log(`client: 200 with ${rows.length} rows, 400, 401, 404, 429 with typed problems`);
