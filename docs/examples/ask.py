"""Asks once and makes a DataFrame: waiting times of the last 7 days by channel, beside the 7 days before.

    pip install pandas
    BOTSTATS_TOKEN=bst_... python ask.py        # BOTSTATS_URL, default http://127.0.0.1:8080

docs/http.md has the parameters and the errors, docs/metrics.md the columns.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import pandas

URL = os.environ.get("BOTSTATS_URL", "http://127.0.0.1:8080")
TIMEOUT_S = 60
# Names and ids stay texts, also those that look like numbers or like missing values.
TEXTS = ["GroupLabel", "BotName", "ChannelName", "SplitName", "BotId", "ChannelId", "SplitId"]


def ask(types, mode, days, **parameters):
    """The rows of all bots of the account. An account has one answered call an hour: keep the answer."""
    query = urllib.parse.urlencode(parameters)
    url = f"{URL}/analytics/statistics/account/*/{types}/{mode}/{days}?{query}"
    headers = {"Authorization": f"Bearer {os.environ['BOTSTATS_TOKEN']}", "Accept": "text/csv"}
    stats = [stat for stat in parameters.get("stats", "").split(",") if stat]
    # P50, Min, Within30: as the service calls the columns of p50, min, within:30.
    numbers = ["Value", *(stat.replace(":", "").capitalize() for stat in stats)]
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        return pandas.read_csv(
            answer,
            dtype={name: str for name in TEXTS},
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )


def main():
    try:
        rows = ask("9,105,106", "total", 7, by="channel", previous="period", stats="p50,p90,within:30")
    except urllib.error.HTTPError as error:
        # An error uses no call. A 429 and a 503 say in how many seconds to ask again.
        problem = json.load(error)
        wait = error.headers.get("Retry-After")
        sys.exit(f"{error.code}: {problem['detail']}" + (f"; ask again in {wait} s" if wait else ""))

    table = rows.pivot(
        index=["ChannelName", "ChannelId", "EventLabel"], columns="Period", values=["Count", "P50", "P90", "Within30"]
    )
    # A window without rows is no column.
    windows = pandas.MultiIndex.from_product([["Count", "P50", "P90", "Within30"], ["previous", "current"]])
    table = table.reindex(columns=windows)
    table["P50", "change"] = table["P50", "current"] - table["P50", "previous"]
    print(table.droplevel("ChannelId").to_string())


if __name__ == "__main__":
    main()
