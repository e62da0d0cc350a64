"""Reads and writes sealed forms of kms_type local, from nothing but docs/sealed.md.

    python3 sealed.py vectors > sealed.json    the test vectors, always the same
    python3 sealed.py open                     opens what stands on standard input, a JSON object a line:
                                               key (base64url), conn_id, form (text); the payload is printed
    python3 sealed.py fernet                   decrypts Fernet tokens, a JSON object a line: key, token

Python's cryptography is needed."""
import base64, hashlib, json, random, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def netstring(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return b"%d:%s," % (len(raw), raw)


def canonical(texts):
    return b"".join(netstring(name) + netstring(texts[name]) for name in sorted(texts, key=str.encode))


def context(form, conn_id):
    return {"version": "1", "conn_id": conn_id, "kms_conn_id": form["kms_conn_id"], "mode": form["mode"]}


def aad(form, conn_id):
    return canonical({
        "connfs_sealed": "1", "conn_id": conn_id, "tenant": "", "kms_conn_id": form["kms_conn_id"], "kms_type": form["kms_type"],
        "mode": form["mode"], "fields": form["fields"], "kms_extra": canonical(form["kms_extra"]),
    })


def key_id(key):
    return hashlib.sha256(b"connfs local key\n" + key).digest()[:8].hex()


def b64(raw):
    return base64.b64encode(raw).decode()


def open_form(key, conn_id, form):
    bound = context(form, conn_id) | {"key": key_id(key)}
    wrapped = base64.b64decode(form["kms_extra"]["ciphertext"], validate=True)
    inner = AESGCM(key).decrypt(wrapped[:12], wrapped[12:], canonical(bound))
    if form["mode"] == "direct":
        return inner
    payload = base64.b64decode(form["payload"], validate=True)
    return AESGCM(inner).decrypt(payload[:12], payload[12:], aad(form, conn_id))


def seal(rng, key, conn_id, mode, values):
    """A vector, with all that comes between. Nonces that repeat are for vectors only."""
    payload = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    form = {"connfs_sealed": 1, "kms_conn_id": "main", "kms_type": "local", "mode": mode, "fields": ",".join(sorted(values))}
    bound = canonical(context(form, conn_id) | {"key": key_id(key)})
    inner = payload if mode == "direct" else rng.randbytes(32)
    nonce = rng.randbytes(12)
    form["kms_extra"] = {"key": key_id(key), "ciphertext": b64(nonce + AESGCM(key).encrypt(nonce, inner, bound))}
    vector = {"conn_id": conn_id, "key": base64.urlsafe_b64encode(key).decode(), "fields": values, "payload": payload.decode(), "context": bound.decode()}
    if mode == "envelope":
        vector |= {"data_key": b64(inner), "aad": aad(form, conn_id).decode()}
        nonce = rng.randbytes(12)
        form["payload"] = b64(nonce + AESGCM(inner).encrypt(nonce, payload, aad(form, conn_id)))
    return vector | {"form": json.dumps(form)}


def vectors():
    rng = random.Random(2062)
    key = rng.randbytes(32)
    for conn_id in ("warehouse", "team/b\u00fccher \u63a5\u7d9a"):
        for mode in ("envelope", "direct"):
            yield seal(rng, key, conn_id, mode, {"extra": '{"sslmode": "require"}', "password": "pa\u00df w/@:%\"\\"})
            yield seal(rng, key, conn_id, mode, {"extra": None, "password": None})
            yield seal(rng, key, conn_id, mode, {
                "conn_type": "postgres", "description": None, "extra": "no JSON\n\u0000\u2028\U0001f600", "host": "db.example",
                "login": "user", "password": "", "port": 5432, "schema": "",
            })


if __name__ == "__main__":
    if sys.argv[1] == "vectors":
        json.dump(list(vectors()), sys.stdout, indent=1)
        print()
    for line in sys.stdin if sys.argv[1] in ("open", "fernet") else ():
        r = json.loads(line)
        if sys.argv[1] == "open":
            print(json.dumps(open_form(base64.urlsafe_b64decode(r["key"]), r["conn_id"], json.loads(r["form"])).decode()))
        else:
            from cryptography.fernet import Fernet, MultiFernet
            print(json.dumps(base64.b64encode(MultiFernet([Fernet(k) for k in r["key"].split(",")]).decrypt(r["token"])).decode()))
