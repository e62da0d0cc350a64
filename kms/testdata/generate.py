"""Writes fernet.json: what Python's cryptography, the library inside Airflow, makes of
keys and tokens. Run by hand, with cryptography installed: python3 generate.py"""
import base64, hashlib, hmac, json, os, random, struct
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

random.seed(2062)
keys = [base64.urlsafe_b64encode(random.randbytes(32)).decode() for _ in range(3)]
SPEC = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="


def token(key, plain, time=499162800, pad=None, version=0x80, payload=None, head=None):
    """A signed token, also of forms that Fernet itself never makes."""
    raw = base64.urlsafe_b64decode(key)
    iv = random.randbytes(16)
    if payload is None:
        if pad is None:
            p = padding.PKCS7(128).padder()
            plain = p.update(plain) + p.finalize()
        else:
            plain = plain + pad
        e = Cipher(algorithms.AES(raw[16:]), modes.CBC(iv)).encryptor()
        payload = e.update(plain) + e.finalize()
    body = struct.pack(">BQ", version, time) + iv + payload if head is None else head
    return base64.urlsafe_b64encode(body + hmac.new(raw[:16], body, hashlib.sha256).digest()).decode()


def read(key, text):
    """As airflow/models/crypto.py does it."""
    try:
        f = MultiFernet([Fernet(part.encode("utf-8")) for part in key.split(",")])
    except (ValueError, TypeError):
        return {"unusable": True}
    try:
        return {"plain": base64.b64encode(f.decrypt(text.encode("utf-8"))).decode()}
    except InvalidToken:
        return {"rejected": True}


cases = []


def case(note, key, text):
    cases.append({"note": note, "key": key, "token": text, **read(key, text)})


k = keys[0]
t = token(k, b"hello")
for n in (0, 1, 15, 16, 17, 31, 32, 1000, 70000):
    case(f"{n} bytes", k, token(k, random.randbytes(n)))
case("time 0", k, token(k, b"x", time=0))
case("far future", k, token(k, b"x", time=2**63 - 1))
case("time beyond 63 bits", k, token(k, b"x", time=2**64 - 1))
case("second key of two", keys[1] + "," + k, t)
case("third key of three", ",".join([keys[1], keys[2], k]), t)
case("another key", keys[1], t)
case("no such key among two", keys[1] + "," + keys[2], t)
for note, key in {
    "empty element at the end": k + ",", "at the start": "," + k, "between": k + ",," + keys[1], "only a comma": ",",
    "a blank": " ", "blank after the comma": keys[1] + ", " + k, "blanks around": " " + k + "\n", "quotes": '"' + k + '"',
    "standard alphabet": k.replace("-", "+").replace("_", "/"), "foreign characters": "!".join(k) + "é",
    "no padding": k.rstrip("="), "more padding": k + "===", "text after the padding": k + "AAAA",
    "padding in front": "==" + k, "padding inside": k[:4] + "=" + k[4:], "padding after two": k[:2] + "=" + k[2:], "full padding inside": k[:2] + "==" + k[2:],
    "31 bytes": base64.urlsafe_b64encode(bytes(31)).decode(), "33 bytes": base64.urlsafe_b64encode(bytes(33)).decode(),
    "hex": bytes(32).hex(), "hex of 16": bytes(16).hex(), "word": "changeme", "loose last bits": k[:-2] + "9=", "NUL inside": k[:5] + "\0" + k[5:],
}.items():
    case("key: " + note, key, t)
for note, text in {
    "empty": "", "word": "hello", "blanks around": " " + t + " ", "line breaks": "\n".join(t[i:i + 20] for i in range(0, len(t), 20)),
    "standard alphabet": t.replace("-", "+").replace("_", "/"), "foreign characters": t[:30] + "!é\t\0*" + t[30:],
    "no padding": t.rstrip("="), "more padding": t + "==", "text after the padding": t + "garbage", "cut": t[:-10], "cut to the head": t[:40],
    "padding inside": t[:40] + "=" + t[40:], "full padding inside": t[:42] + "==" + t[42:], "first byte only": "gA==", "one digit": "g",
    "changed": t[:50] + ("A" if t[50] != "A" else "B") + t[51:], "JSON": '{"a": 1}',
}.items():
    case("token: " + note, k, text)
case("version 0x81", k, token(k, b"hello", version=0x81))
case("pad 0", k, token(k, b"x" * 15, pad=b"\0"))
case("pad 17", k, token(k, b"x" * 15, pad=b"\x11" * 17))
case("pad 16 of another byte", k, token(k, b"", pad=b"\x0f" * 15 + b"\x10"))
case("pad longer than the payload", k, token(k, b"x" * 15, pad=b"\x12"))
case("signed, no payload", k, token(k, b"", payload=b""))
case("signed, half a block", k, token(k, b"", payload=b"12345678"))
case("signed, a block and a half", k, token(k, b"", payload=b"1" * 24))
for n in (1, 8, 9, 10, 24, 25, 26):
    case(f"signed, {n} bytes in all", k, token(k, b"", head=(b"\x80" + bytes(40))[:n]))
for note, text in {
    "spec generate": "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
    **{"spec " + c["desc"]: c["token"] for c in json.load(open("spec_invalid.json"))},
}.items():
    case(note, SPEC, text)
for i in range(60):  # base64 seen from everywhere
    noise = "".join(random.choice("ABgx+/-_== \né") for _ in range(random.randrange(12)))
    where = random.randrange(len(t))
    case(f"noise {i}", k, t[:where] + noise + t[where:])
    case(f"noise in the key {i}", k[:where % 44] + noise + k[where % 44:], t)
json.dump(cases, open("fernet.json", "w"), indent=0, ensure_ascii=True)
print(len(cases), {x: sum(x in c for c in cases) for x in ("plain", "rejected", "unusable")})
