# Calls of the endpoint, to paste one by one. The comment above each call has the status of its answer, then the
# content type or, for an error, the problem. docs/http.md explains both. First set these variables:
#
#   export BOTSTATS_URL=http://127.0.0.1:8080 BOTSTATS_TOKEN=bst_... BOTSTATS_BOT_KEY=...
#
# Only a 200 for statistics uses the account's call of the hour. To try several of these calls in a row, run query
# with a shorter throttle window.

# 200 application/json: users, messages, conversation length and takeover rate of all bots, by day
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"

# 200 application/json: one bot by hour, also rows without a sample
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/$BOTSTATS_BOT_KEY/3,13/hour/1?fill=zero"

# 200 application/json: compressed, with a request id of your own; curl also shows the answer's head
curl -i --compressed -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "X-Request-Id: my-request.1" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/month/30"

# 200 application/json: compressed with gzip, unpacked by `gzip -d`
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept-Encoding: gzip" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/year/30" | gzip -d

# 200 text/csv: for a spreadsheet
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: text/csv" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/day/30"

# 200 application/x-ndjson: one row on each line
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: application/x-ndjson" \
  "$BOTSTATS_URL/analytics/statistics/account/*/12,18/hour/2"

# 200 application/json: the description of this call for programs; needs no token, uses no call
curl "$BOTSTATS_URL/openapi.json"

# 200 text/plain: whether this replica is ready, for load balancers; needs no token, uses no call
curl "$BOTSTATS_URL/healthz"

# 401 unauthorized: no token
curl "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 401 unauthorized: an unknown token
curl -H "Authorization: Bearer nobody" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 400 bad-parameter: there is no type 19
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3,19/day/7"

# 400 bad-parameter: `week` is not a GROUPMODE
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/week/7"

# 400 bad-parameter: at most 30 days
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/31"

# 400 bad-parameter: too short for an API key
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/bot1/3/day/7"

# 400 bad-parameter: the only value of fill is zero
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7?fill=all"

# 406 not-acceptable: there is no answer as an image
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: image/png" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 404 not-found: no bot has this API key
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/key_of_nobody/3/day/7"

# 404 unknown-path: there is no such path
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics"

# 405 method-not-allowed: HEAD is not allowed here, and its answer has no body
curl --head -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 405 method-not-allowed: only GET is allowed
curl -X POST -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 431 head-too-large: more than 16 KiB of headers
curl -H "X-Long: $(printf '%017000d' 0)" -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 429 throttled: the call is used; Retry-After says how long to wait, and `curl --retry 1` waits by itself
curl -i -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"

# 503 unavailable: the statistics cannot be reached at the moment; no call is used
curl -i -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"
