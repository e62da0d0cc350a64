"""Writes case.txt: str.upper() and str.lower() of every code point that they
change, and the value of every decimal digit outside ASCII, as Python has them.

One code point a line, in hex: itself, upper, lower ("=": unchanged; several
code points joined by "+"), then the digit's value ("-": none). The first line
is the version of Unicode. Run with Python 3.12, the newest that Airflow 2.10 runs on.
"""

import sys
import unicodedata


def column(text, char):
    return "=" if text == char else "+".join(f"{ord(c):X}" for c in text)


with open("case.txt", "w") as out:
    print(unicodedata.unidata_version, file=out)
    for char in map(chr, range(sys.maxunicode + 1)):
        upper, lower = column(char.upper(), char), column(char.lower(), char)
        digit = unicodedata.decimal(char, None) if char > "\x7f" else None
        if upper != "=" or lower != "=" or digit is not None:
            print(f"{ord(char):X}", upper, lower, "-" if digit is None else digit, file=out)
