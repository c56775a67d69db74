"""The work of `callback` with boto3: one conditional write, one message."""

import json
import time

import boto3
from common import QUEUE, TABLE, is_signed, report_of, response, sqs, task_of

dynamodb = boto3.client("dynamodb")


def handler(event, context):
    task = task_of(event)
    if task is None or not is_signed(event):
        return response(401, {"error": "the token or the signature is not valid"})
    report = report_of(event)
    item = {
        "task": {"S": task},
        "state": {"S": "pending"},
        "report": {"S": json.dumps(report)},
        "raw": {"S": event["body"]},
        "created_at": {"N": str(int(time.time()))},
    }
    try:
        dynamodb.put_item(TableName=TABLE, Item=item, ConditionExpression="attribute_not_exists(task)")
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return response(200, {"duplicate": True})
    sqs.send_message(QueueUrl=QUEUE, MessageBody=json.dumps({"task": task}))
    return response(200, {"received": True})
