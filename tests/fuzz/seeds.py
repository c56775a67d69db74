#!/usr/bin/env python3
"""Writes the initial corpus of every fuzz target from the files under events/providers: corpus/<target>/<case>."""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
PROVIDERS = HERE.parent.parent / "events" / "providers"
CORPUS = HERE / "corpus"
KINDS = ["callback", "status", "submission", "file"]
STATUSES = [200, 200, 201, 202, 400, 401, 404, 408, 422, 429, 451, 500]

WEBHOOK = ["webhook-id", "webhook-timestamp", "webhook-signature"]
# The headers that the target `verify` takes, one line each.
SIGNED = {
    **dict.fromkeys(["kling", "replicate", "wavespeed", "veo"], WEBHOOK),
    "kie": ["x-webhook-timestamp", "x-webhook-signature"],
    "vidu": ["x-hmac-signature", "x-hmac-algorithm", "x-hmac-signed-headers", "date", "x-request-nonce"],
    "fal": ["x-fal-webhook-request-id", "x-fal-webhook-user-id", "x-fal-webhook-signature"],
    "openrouter": ["x-openrouter-signature"],
}
KEYS = '"callback":{"keys":["sixteen-characters"],"base_url":"https://hub.test"}'
DOCUMENTS = [
    b'\0{"version":1,' + KEYS.encode() + b',"providers":{"kling":{"api_key":"k","signing_secrets":["whsec_AAAA"],'
    b'"base_url":"https://a.test","confirm":"never","artifacts":["video"],"poll":{"first_seconds":1}}}}',
    b'\1{"version":"1","task":"kling/job-1","confirm":true}',
]


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def main():
    for file in sorted(PROVIDERS.glob("*/*.json")):
        provider, name = file.parent.name, file.stem
        case = json.loads(file.read_text())
        body = case["raw"] if "raw" in case else json.dumps(case["body"], separators=(",", ":"), ensure_ascii=False)
        status = case.get("http_status", 200)
        head = bytes([KINDS.index(case["kind"]), STATUSES.index(status) if status in STATUSES else 4])
        write("parse", f"{provider}-{name}", f"{provider}\n".encode() + head + body.encode())
        line = {key: case[key] for key in ("kind", "http_status", "requested_id", "headers", "path", "query") if key in case}
        write("explain_line", f"{provider}-{name}", json.dumps({"provider": provider, **line, "raw": body}).encode())
        headers = {key.lower(): value for key, value in case.get("headers", [])}
        wanted = SIGNED.get(provider, [])
        if wanted and all(header in headers for header in wanted):
            parts = [headers[header] for header in wanted]
            if provider == "vidu":
                parts = [case["path"], case["query"], *parts]
            first = f"{provider}\n".encode()
            signed = "\n".join([parts[0], "x=1", "nonce", body])
            write("verify", f"{provider}-{name}", first + b"\0\0\0" + "\n".join([*parts, body]).encode())
            write("verify", f"{provider}-{name}-signed", first + b"\1\3\5" + signed.encode())
        if case.get("path"):
            write("route", f"{provider}-{name}", b"\0\0\0" + case["path"].encode())
    for number in range(18):
        write("route", f"own-{number}", bytes([2 * number + 1, 20, number]) + b"job-%d" % number)
    for number, document in enumerate(DOCUMENTS):
        write("documents", str(number), document)


main()
