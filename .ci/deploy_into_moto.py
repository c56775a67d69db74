"""Deploys the output of translate.py into moto: a second opinion on the template, beside ministack, which the tests use.

Two replacements: the settings are a secret of our own, and a Function URL is a text, because moto's CloudFormation makes neither. It
passes over the other types of LEFT_OUT, and it deletes a table whatever its deletion policy, so removal is not tried.
"""

import io
import json
import logging
import sys
import warnings
import zipfile
from collections import Counter

import boto3
from moto import mock_aws

LEFT_OUT = {
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Url",
    "AWS::S3::BucketPolicy",
    "AWS::Scheduler::Schedule",
}
MADE = {
    "AWS::CloudWatch::Dashboard": 1,
    "AWS::DynamoDB::Table": 1,
    "AWS::IAM::ManagedPolicy": 1,
    "AWS::IAM::Role": 5,
    "AWS::Lambda::EventSourceMapping": 1,
    "AWS::Lambda::Function": 4,
    "AWS::Lambda::Permission": 2,
    "AWS::Logs::LogGroup": 4,
    "AWS::S3::Bucket": 1,
    "AWS::SNS::Topic": 1,
    "AWS::SQS::Queue": 2,
}


def without_function_urls(value):
    if isinstance(value, list):
        return [without_function_urls(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("Fn::GetAtt", ["", ""])[1] == "FunctionUrl":
        return "https://function-url.example/"
    return {name: without_function_urls(item) for name, item in value.items()}


with open(sys.argv[1], encoding="utf-8") as file:
    template = without_function_urls(json.load(file))
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("bootstrap", "")
# One about each resource that is passed over.
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
with mock_aws():
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="archive.zip", Body=archive.getvalue())
    cloudformation.create_stack(
        StackName="reelhook",
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "SettingsSecret", "ParameterValue": "reelhook"}],
        Capabilities=["CAPABILITY_IAM"],
    )
    [stack] = cloudformation.describe_stacks(StackName="reelhook")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    resources = cloudformation.describe_stack_resources(StackName="reelhook")["StackResources"]
    made = Counter(resource["ResourceType"] for resource in resources if resource.get("LogicalResourceId"))
    assert made == MADE, made
    unconditional = {resource["Type"] for resource in template["Resources"].values() if "Condition" not in resource}
    assert unconditional - set(made) <= LEFT_OUT, unconditional - set(made)

    names = boto3.client("dynamodb").list_tables()["TableNames"]
    [index] = boto3.client("dynamodb").describe_table(TableName=names[0])["Table"]["GlobalSecondaryIndexes"]
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["due_shard", "due_at"], index
    [mapping] = boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"] and mapping["BatchSize"] == 1, mapping
    functions = boto3.client("lambda").list_functions()["Functions"]
    assert {function["Runtime"] for function in functions} == {"provided.al2023"}, functions

print(f"moto: {sum(made.values())} resources of {len(made)} types; not made there: {', '.join(sorted(LEFT_OUT))}")
