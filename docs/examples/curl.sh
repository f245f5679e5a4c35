# Questions to the endpoint, to paste one by one. Above each stands what it answers: the status, then the type of
# the content or, for an error, the problem. docs/http.md explains both. They need
#
#   export BOTSTATS_URL=http://127.0.0.1:8080 BOTSTATS_TOKEN=bst_... BOTSTATS_BOT_KEY=...
#
# Only a 200 uses the account's call of the hour. For more of them in a row run query with a shorter window.

# 200 application/json: users, messages, conversation length and takeover rate of all bots, by day
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"

# 200 application/json: one bot by hour, rows without a sample too
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/$BOTSTATS_BOT_KEY/3,13/hour/1?fill=zero"

# 200 application/json: compressed on its way, with a request id of one's own, the answer's head shown
curl -i --compressed -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "X-Request-Id: my-request.1" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/month/30"

# 200 application/json: gzip, unpacked here
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept-Encoding: gzip" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/year/30" | gzip -d

# 200 text/csv: for a spreadsheet
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: text/csv" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,2,3,13/day/30"

# 200 application/x-ndjson: a row a line
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: application/x-ndjson" \
  "$BOTSTATS_URL/analytics/statistics/account/*/12,18/hour/2"

# 200 application/json: what all of this looks like to a program; needs no token, uses no call
curl "$BOTSTATS_URL/openapi.json"

# 200 text/plain: whether this replica is ready, for load balancers; needs no token, uses no call
curl "$BOTSTATS_URL/healthz"

# 401 unauthorized: no token
curl "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 401 unauthorized: a token that is none
curl -H "Authorization: Bearer nobody" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 400 bad-parameter: there is no type 19
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3,19/day/7"

# 400 bad-parameter: weeks are no groups
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/week/7"

# 400 bad-parameter: at most 30 days
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/31"

# 400 bad-parameter: too short for an API key
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/bot1/3/day/7"

# 400 bad-parameter: fill is zero or absent
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7?fill=all"

# 406 not-acceptable: there are no pictures
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" -H "Accept: image/png" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 404 not-found: nobody has this API key
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/key_of_nobody/3/day/7"

# 404 unknown-path: nothing is here
curl -H "Authorization: Bearer $BOTSTATS_TOKEN" "$BOTSTATS_URL/analytics/statistics"

# 405 method-not-allowed: HEAD, whose answer has no body
curl --head -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 405 method-not-allowed: only GET
curl -X POST -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 431 head-too-large: more than 16 KiB of headers
curl -H "X-Long: $(printf '%017000d' 0)" -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/3/day/7"

# 429 throttled: the call is used; Retry-After says how long to wait, and curl does so by itself with --retry 1
curl -i -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"

# 503 unavailable: where nothing can be counted just now; no call is used
curl -i -H "Authorization: Bearer $BOTSTATS_TOKEN" \
  "$BOTSTATS_URL/analytics/statistics/account/*/0,1,2,3,8,10/day/7"
