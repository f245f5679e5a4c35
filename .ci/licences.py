#!/usr/bin/env python3
"""Checks that every crate in Cargo.lock and tests/fuzz/Cargo.lock has a licence that is allowed and comes from a registry.

    python3 .ci/licences.py          # exit code 1 and a line a crate if not
    python3 .ci/licences.py --list   # how many crates there are of each licence expression
    python3 .ci/licences.py --test   # this program's own cases

An expression (SPDX) is allowed if it can be met with licences of ALLOWED alone.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

# Permissive licences, and data licences of what is compiled in (time zones, Unicode, root certificates).
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}
# Permissive too; of the fuzzing engine, which is in nothing that is shipped.
ALLOWED_IN_TESTS = ALLOWED | {"NCSA"}
TOKEN = re.compile(r"\s*(\(|\)|/|[^\s()/]+)")


class BadExpression(Exception):
    pass


def allowed(expression, licences=ALLOWED):
    """Whether an SPDX expression can be met with these; `/` is an old way to write OR, lower case a new one."""
    same = {"/": "OR", "or": "OR", "and": "AND", "with": "WITH"}
    tokens = [same.get(token, token) for token in TOKEN.findall(expression)]
    place = 0

    def peek():
        return tokens[place] if place < len(tokens) else None

    def take():
        nonlocal place
        token = peek()
        if token is None:
            raise BadExpression(expression)
        place += 1
        return token

    def either():
        met = both()
        while peek() == "OR":
            take()
            # Not short-circuited: the rest must be read in any case.
            met = both() or met
        return met

    def both():
        met = one()
        while peek() == "AND":
            take()
            met = one() and met
        return met

    def one():
        token = take()
        if token == "(":
            met = either()
            if take() != ")":
                raise BadExpression(expression)
            return met
        if token in (")", "AND", "OR", "WITH"):
            raise BadExpression(expression)
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in licences

    met = either()
    if peek() is not None:
        raise BadExpression(expression)
    return met


def problem(package, licences=ALLOWED):
    """What is wrong with a package of `cargo metadata`, or None."""
    source, expression = package["source"], package["license"]
    if source is not None and not source.startswith(("registry+", "sparse+")):
        return f"comes from {source.split('+')[0]}, not from a registry"
    if not expression:
        return "says no licence expression"
    try:
        return None if allowed(expression, licences) else f"licence {expression} is not allowed"
    except BadExpression:
        return f"licence {expression!r} cannot be read"


def packages(workspace):
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, cwd=root / workspace, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["packages"]


def test():
    for expression, expected in [
        ("MIT", True),
        ("GPL-3.0", False),
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0 OR MIT", True),
        ("MIT AND GPL-3.0", False),
        ("MIT/Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH Other-exception", False),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", True),
        ("(GPL-3.0 AND MIT) OR LGPL-2.1", False),
        ("GPL-3.0 OR MIT AND GPL-2.0", False),
        ("", None),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT Apache-2.0", None),
        ("MIT)", None),
    ]:
        try:
            found = allowed(expression)
        except BadExpression:
            found = None
        assert found == expected, (expression, found)
    assert allowed("MIT AND NCSA", ALLOWED_IN_TESTS) and not allowed("MIT AND NCSA")
    registry = "registry+https://example"
    for source, licence, good in [
        (registry, "MIT", True),
        (None, "MIT", True),
        ("sparse+https://example", "MIT", True),
        ("git+https://example", "MIT", False),
        (registry, None, False),
        (registry, "GPL-3.0", False),
        (registry, "(", False),
    ]:
        found = problem({"source": source, "license": licence})
        assert (found is None) == good, (source, licence, found)


def main(arguments):
    # Its own cases take no time, so they are always run.
    test()
    if arguments == ["--test"]:
        print("all cases hold")
        return 0
    found, fuzzing = packages("."), packages("tests/fuzz")
    if arguments == ["--list"]:
        counts = collections.Counter(package["license"] for package in found)
        for expression, count in counts.most_common():
            print(f"{count:4} {expression}")
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 64
    looked_at = [(p, problem(p)) for p in found] + [(p, problem(p, ALLOWED_IN_TESTS)) for p in fuzzing]
    bad = {(p["name"], p["version"], why) for p, why in looked_at if why}
    for name, version, why in sorted(bad):
        print(f"{name} {version}: {why}", file=sys.stderr)
    print(f"{len(found)} crates looked at, {len(fuzzing)} for fuzzing, {len(bad)} refused")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
