"""The work of `callback` with the idempotency of Powertools for AWS Lambda."""

import json
import os

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from common import QUEUE, is_signed, report_of, response, sqs, task_of

store = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"])
config = IdempotencyConfig(expires_after_seconds=86400)


@idempotent_function(data_keyword_argument="task", persistence_store=store, config=config)
def record(task, report):
    sqs.send_message(QueueUrl=QUEUE, MessageBody=json.dumps({"task": task, "report": report}))
    return {"received": True}


def handler(event, context):
    task = task_of(event)
    if task is None or not is_signed(event):
        return response(401, {"error": "the token or the signature is not valid"})
    config.register_lambda_context(context)
    return response(200, record(task=task, report=report_of(event)))
