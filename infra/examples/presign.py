"""Prints links to the files of a task, for whoever may see them for an hour. Exits with 1 if there is no result.

    pip install boto3
    python presign.py BUCKET kling/job-1
"""

import json
import sys

import boto3
from botocore.config import Config

bucket, task = sys.argv[1:]
# Without it boto3 signs links in a way that newer regions and KMS keys refuse.
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
result = json.loads(s3.get_object(Bucket=bucket, Key=f"tasks/{task}/result.json")["Body"].read())
if result["outcome"] != "succeeded":
    sys.exit(f"{task} {result['outcome']}: {result['failure']['reason']}: {result['failure'].get('message', '')}")
for artifact in result["artifacts"]:
    parameters = {"Bucket": bucket, "Key": artifact["key"]}
    link = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=3600)
    print(artifact["kind"], link)
