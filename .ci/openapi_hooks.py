"""Gives schemathesis a valid API key, which it cannot know, so that some requests ask for a single bot."""

import os

import schemathesis


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    key = path_parameters and path_parameters.get("APIKEY")
    if isinstance(key, str) and key[:1] in "AEIMQUYaeimquy":
        path_parameters["APIKEY"] = os.environ["BOTSTATS_BOT_KEY"]
    return path_parameters
