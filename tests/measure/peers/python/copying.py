"""The work of `process` with boto3: the video of a task from its link into the bucket, and one write that says so."""

import json
import os

import boto3
import urllib3
from botocore.config import Config

TABLE = os.environ["TABLE_NAME"]
BUCKET = os.environ["BUCKET_NAME"]

dynamodb = boto3.client("dynamodb")
# As the AWS in memory requires: it has one address for all buckets, and takes no checksum behind the body.
s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"))
http = urllib3.PoolManager()


def handler(event, context):
    for record in event["Records"]:
        message = json.loads(record["body"])
        key = f"copies/{message['task']}/video.mp4"
        with http.request("GET", message["url"], preload_content=False) as response:
            if response.status != 200:
                raise RuntimeError(f"{message['task']}: the origin responded with {response.status}")
            s3.upload_fileobj(response, BUCKET, key, ExtraArgs={"ContentType": response.headers["content-type"]})
        dynamodb.update_item(
            TableName=TABLE,
            Key={"task": {"S": message["task"]}},
            UpdateExpression="SET copied_to = :key",
            ExpressionAttributeValues={":key": {"S": key}},
        )
    return {"batchItemFailures": []}
