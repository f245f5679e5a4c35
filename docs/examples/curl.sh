# Calls of the endpoint, to paste one by one. The comment above each call has the status of its answer, then the
# content type or, for an error, the problem. docs/http.md explains both. First set these variables:
#
#   export BOTSTATS_URL=http://127.0.0.1:8080 BOTSTATS_TOKEN=bst_... BOTSTATS_BOT_KEY=...
#   export FROM=2026-11-01 TO=2026-11-30 BOTSTATS_BOT_TOKEN=bst_...
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

# 200 application/json: from one date to another
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/2,3,100/day/*?from=$FROM&to=$TO"

# 200 application/json: by quarters of an hour, today
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3,13/15min/1"

# 200 application/json: by week
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/2,100/week/30"

# 200 application/json: everything as one group, all bots and channels together
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,101/total/30?by=none"

# 200 application/json: a mean week by hour
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/13/weekhour/28?by=none&fill=zero"

# 200 application/json: by channel, over all bots
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/13,101/day/7?by=channel"

# 200 application/json: the last 7 days, and the same weekdays before
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/2,3,100/total/7?previous=week&by=none"

# 200 application/json: waiting times as median, 90th percentile, maximum, and share within 30 s
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/9,105,106/total/7?stats=p50,p90,max,within:30"

# 200 application/json: the ten goals that are reached most
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/12/total/30?split=goal&top=10&by=none"

# 200 application/json: messages and reply times of each operator
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/17,106/day/7?split=operator&stats=p50"

# 200 application/json: each channel has a row for each day
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3,13,105/day/7?by=channel&fill=zero"

# 200 application/json: the bot's call, with a token of the bot
curl -H "Authorization: Bearer $BOTSTATS_BOT_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/2,3,13/day/7"

# 200 text/csv: columns of percentiles and of an earlier window, for a spreadsheet
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: text/csv" \
  "$BOTSTATS_URL/analytics/statistics/account/*/9,105/day/7?stats=p50,p90&previous=period"

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

# 400 bad-parameter: `fortnight` is not a GROUPMODE
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/fortnight/7"

# 400 bad-parameter: at most 30 days
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/31"

# 400 bad-parameter: too short for an API key
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/bot1/3/day/7"

# 400 bad-parameter: `from` needs `to`
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/*?from=$FROM"

# 400 bad-parameter: 3 has no goals
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7?split=goal"

# 403 forbidden: a token of the account does not allow the bot's call
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/3/day/7"

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
