"""Writes lookup_patterns.json: which of these ids Python's re.match takes, ignoring case, as Airflow's backends do."""
import json
import os
import re

PATTERNS = [
    "", "team", "^team", "team$", r"team\Z", r"\Ateam", "TEAM_A", "a", ".*_x$", "(team_a|xteam)", "(?!team_b)team", r"team_(a|b)_x\Z",
    "(?P<t>team)_a", "(?P<t>te)am_(?P=t)", "(?P<a>t)(e)(?P<b>a).*\\2", "team_(?=a)", r"(.)eam_\w_.", r"\bteam", r".*\bx", r".*\Bx", "team_[^a]",
    "[", "(", "a{", "a{,2}$", "a{1,2}$", "t{1}e", "*", "[a-z]+$", "[]a]+", "[^]]+$", "[a[b]+$", "[a-z-[aeiou]]+$", r"[\w.]+$", r"[\d]+$", r"\d+$", r"\w+$",
    r"\s", r"\S+$", r"\D+$", r"\W", r"[\s]", r"[\b]", "(?i)team", "(?x) te am # comment", "(?s).+$", "(?m)^team$", "(?a)\\w+$", "(?ai)\\w+$", "(?i:TEAM)", "(?-i:team)",
    "(?#comment)team", "(?:team|x)_", "(?<=t)e", "t(?<=t)e", ".(?<!x)e", "(?>te)am", "(t)?(?(1)eam|x)", r"\q", r"\p{L}", r"\z", r"\G", r"\K", r"\h", r"\x74eam", r"\u0074eam",
    r"\U00000074eam", r"\164eam", r"(t)\1", r"\.", r"team\_a", "bücher", "BÜCHER", "ß", "接続", r"[[:alpha:]]", r"a|b", "team|", "()", "(?<n>a)", "(?P>n)", "(?'n'a)", "team_a_x$",
    r"\r", r"\t", r"\x1c", "[_-]", r"\-", "a.b", "(?:a", "a)", "team_a\\", "x{2}", "x{2,}", "(?=.*x)team", r"(?:\d|_)+", ".{0,5}$", r"\w{4}_\w", "[A-Z]+$", "^$", "$",
]
IDS = [
    "", "team", "Team", "team\n", "\nteam", "team_a_x", "team_a_y", "team_b_x", "TEAM_A_Y", "xteam_a", "steam", "team a", "te am", "team.b", "a", "aa", "aaa", "a]b", "a[b", "b-[",
    "tetetam", "teamte", "te_am_te", "12", "١٢", "é", "bücher", "BÜCHER", "ß", "接続", "½", "x", "xx", "xxx", " x", "\tx", "\x1c", "\x85", "\u2003", "a\u0301", "team\r", "a_b", "a-b",
    "a{", "tt", "e", ".", "_", "‿", "\u200d", "[:a]", "a-z", "team_team_t", "team_te",
]


def answers(pattern):
    try:
        return {i: not pattern or bool(re.match(pattern, i, re.IGNORECASE)) for i in IDS}
    except re.error:
        return None


cases = []
for p in PATTERNS:
    m = answers(p)
    cases.append({"pattern": p, "valid": m is not None, "matches": m or {}})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lookup_patterns.json"), "w") as f:
    json.dump(cases, f, indent=1)
    f.write("\n")
