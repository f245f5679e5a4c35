// Asks once and prints waiting times of the last 7 days by channel, beside the 7 days before.
//
//     BOTSTATS_TOKEN=bst_... node ask.mjs          # BOTSTATS_URL, default http://127.0.0.1:8080
//
// Needs Node 18 or newer, and no library. docs/http.md has the parameters and the errors, docs/metrics.md the columns.

const { BOTSTATS_URL: url = "http://127.0.0.1:8080", BOTSTATS_TOKEN: token } = process.env;
const TIMEOUT_MS = 60_000;

// Returns the rows of all bots of the account. An account has one answered call an hour: keep the answer.
async function ask(types, mode, days, parameters) {
  const query = new URLSearchParams(parameters);
  const response = await fetch(`${url}/analytics/statistics/account/*/${types}/${mode}/${days}?${query}`, {
    headers: { Authorization: `Bearer ${token}`, Accept: "application/json" },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (response.ok) return response.json();
  // An error uses no call. A 429 and a 503 say in how many seconds to ask again.
  const { detail } = await response.json();
  const wait = response.headers.get("Retry-After");
  throw new Error(`${response.status}: ${detail}${wait ? `; ask again in ${wait} s` : ""}`);
}

// Numbers are null in rows without a sample, and a window may have no row.
const seconds = (number) => (number == null ? "-" : `${number} s`);

const rows = await ask("9,105,106", "total", 7, { by: "channel", previous: "period", stats: "p50,p90,within:30" });
const key = (row) => JSON.stringify([row.ChannelId, row.EventType]);
const before = new Map(rows.filter((row) => row.Period === "previous").map((row) => [key(row), row]));
for (const row of rows.filter((row) => row.Period === "current")) {
  console.log(
    `${row.ChannelName}, ${row.EventLabel}: median ${seconds(row.P50)} (before ${seconds(before.get(key(row))?.P50)}), ` +
      `p90 ${seconds(row.P90)}, ${row.Within30} % within 30 s, of ${row.Count}`,
  );
}
