"""Deploys the template into the emulator with the AWS CLI's `cloudformation package` and `cloudformation deploy`.

Reads one JSON document from standard input and writes one to standard output; the caller is `deployment.rs`. One process
runs every command, because starting the CLI takes longer than the work.
"""

import contextlib
import functools
import io
import json
import os
import sys
import zipfile

import botocore.session
from awscli.clidriver import create_clidriver
from awscli.customizations.cloudformation.yamlhelper import yaml_parse
from stack import describe


def fail(message: str) -> None:
    """Exits with a message that `deployment.rs` prints."""
    print(message, file=sys.stderr)
    sys.exit(1)


def aws(*arguments: str) -> None:
    """Runs an AWS CLI command. If it fails, prints its output without progress bars and exits."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = create_clidriver().main(list(arguments))
    if code:
        lines = [line.rsplit("\r", 1)[-1] for line in output.getvalue().splitlines()]
        fail("\n".join([f"aws {arguments[0]} {arguments[1]} failed", *filter(None, lines)]))


def failed_resources(cloudformation, stack_name: str) -> str:
    """Lists the resources that failed, with their reasons."""
    try:
        events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    except Exception as error:  # the deployment failed before there was a stack
        return str(error)
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
    ]
    return "\n".join(reasons) or "no resource reports a reason"


def fill_gaps(session, template: dict, names: dict) -> None:
    """Applies by API the properties of the template that ministack 1.5.33 ignores."""
    for logical, resource in template["Resources"].items():
        kind, properties = resource["Type"], resource.get("Properties", {})
        name = names.get(logical)
        if not name:
            continue  # its condition does not hold
        if kind == "AWS::DynamoDB::Table" and "TimeToLiveSpecification" in properties:
            session.create_client("dynamodb").update_time_to_live(
                TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"]
            )
        if kind == "AWS::S3::Bucket" and "LifecycleConfiguration" in properties:
            rules = []
            # Those under a condition are off by default.
            for rule in filter(lambda rule: "Id" in rule, properties["LifecycleConfiguration"]["Rules"]):
                # CloudFormation spells Id what the API spells ID, and omits the filter.
                rule = {**rule, "ID": rule["Id"], "Filter": {"Prefix": rule.get("Prefix", "")}}
                rules.append({key: value for key, value in rule.items() if key not in ("Id", "Prefix")})
            session.create_client("s3").put_bucket_lifecycle_configuration(
                Bucket=name, LifecycleConfiguration={"Rules": rules}
            )
        if kind == "AWS::S3::BucketPolicy":
            # The policy denies plain HTTP, which is all the emulator speaks, and would apply where permissions are enforced.
            session.create_client("s3").delete_bucket_policy(Bucket=names[properties["Bucket"]["Ref"]])
        if kind == "AWS::Serverless::Function" and "EventInvokeConfig" in properties:
            session.create_client("lambda").put_function_event_invoke_config(
                FunctionName=name, **properties["EventInvokeConfig"]
            )


def allow_batches(session, roles: list) -> None:
    """ministack requires sqs:SendMessageBatch. AWS has no such action: there sqs:SendMessage covers batches."""
    iam = session.create_client("iam")
    for role in roles:
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for statement in document["Statement"]:
                actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                if "sqs:SendMessage" in actions:
                    statement["Action"] = [*actions, "sqs:SendMessageBatch"]
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


def make_concurrency_a_number(session, function_names: set) -> None:
    """ministack stores a maximum concurrency that comes from a parameter as text, and then every poll of the queue fails."""
    client = session.create_client("lambda")
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        concurrency = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
        if concurrency is not None and mapping["FunctionArn"].split(":function:")[1].split(":")[0] in function_names:
            client.update_event_source_mapping(
                UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": int(concurrency)}
            )


def main() -> None:
    request = json.load(sys.stdin)
    stack_name = request["stack_name"]
    session = botocore.session.get_session()
    cloudformation = session.create_client("cloudformation")

    bucket = "reelhook-local-artifacts"
    session.create_client("s3").create_bucket(Bucket=bucket)

    # Debug executables are 50 MB each. Compressing four of them takes 12 seconds, and they never leave this machine.
    zipfile.ZipFile = functools.partial(zipfile.ZipFile, compresslevel=0)

    packaged = os.path.join(os.path.dirname(request["template"]), f"packaged-{stack_name}.yaml")
    package = ["cloudformation", "package", "--template-file", request["template"], "--s3-bucket", bucket]
    aws(*package, "--output-template-file", packaged)

    parameters = [f"{name}={value}" for name, value in request["parameters"].items()]
    deploy = ["cloudformation", "deploy", "--template-file", packaged, "--stack-name", stack_name]
    deploy += ["--s3-bucket", bucket]
    deploy += ["--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", "--parameter-overrides", *parameters]
    try:
        aws(*deploy)
    except SystemExit:
        print(failed_resources(cloudformation, stack_name), file=sys.stderr)
        raise

    resources = cloudformation.describe_stack_resources(StackName=stack_name)["StackResources"]
    names = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
    with open(packaged, encoding="utf-8") as file:
        template = yaml_parse(file.read())
    stack = describe(session, stack_name)
    make_concurrency_a_number(session, set(stack["functions"].values()))
    allow_batches(
        session,
        [names[logical] for logical, resource in template["Resources"].items() if resource["Type"] == "AWS::IAM::Role"],
    )
    fill_gaps(session, template, names)

    if settings := request["settings"]:
        # CALLBACK_BASE_URL in the stack names an AWS host, which the simulated providers cannot reach.
        settings.setdefault("callback", {}).setdefault("base_url", stack["outputs"]["CallbackUrl"])
        session.create_client("secretsmanager").put_secret_value(
            SecretId=stack["outputs"]["SettingsSecretName"], SecretString=json.dumps(settings)
        )
    json.dump(stack, sys.stdout)


if __name__ == "__main__":
    main()
