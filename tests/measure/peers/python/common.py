"""What both Python functions share: clients and settings of the environment, and who may call."""

import base64
import hashlib
import hmac
import json
import os
import time

import boto3

TABLE = os.environ["CALLBACKS_TABLE"]
QUEUE = os.environ["QUEUE_URL"]

sqs = boto3.client("sqs")
secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["SETTINGS_SECRET"])
settings = json.loads(secret["SecretString"])
keys = settings["callback"]["keys"]
secrets = [base64.b64decode(text.removeprefix("whsec_")) for text in settings["providers"]["kling"]["signing_secrets"]]


def response(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


def task_of(event):
    """The task that a callback is about; None if its token is not valid."""
    _, _, provider, task, token = event["rawPath"].split("/")
    for key in keys:
        tag = hmac.digest(key.encode(), f"{provider}/{task}".encode(), hashlib.sha256)[:16]
        if hmac.compare_digest(base64.urlsafe_b64encode(tag).rstrip(b"=").decode(), token):
            return f"{provider}/{task}"
    return None


def is_signed(event):
    headers = event["headers"]
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        return False
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{event['body']}".encode()
    given = [part.removeprefix("v1,") for part in headers["webhook-signature"].split(" ")]
    expected = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets]
    return any(hmac.compare_digest(one, other) for one in given for other in expected)


def report_of(event):
    body = json.loads(event["body"])
    return {"id": body["id"], "status": body["status"], "url": body["outputs"][0]["url"]}
