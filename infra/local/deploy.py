"""Deploys the template into the stand-in, with the AWS CLI's own `cloudformation package` and `cloudformation deploy`.

Reads one JSON document from standard input and writes one to standard output; `deployment.rs` is the other side. Everything
happens in one process because starting the CLI costs more than what it does here.
"""

import contextlib
import functools
import io
import json
import os
import sys
import urllib.parse
import zipfile

import botocore.session
from awscli.clidriver import create_clidriver
from awscli.customizations.cloudformation.yamlhelper import yaml_parse


def fail(message: str) -> None:
    """Ends with a message that `deployment.rs` shows."""
    print(message, file=sys.stderr)
    sys.exit(1)


def aws(*arguments: str) -> None:
    """Runs an AWS CLI command. Shows what it printed, without its progress bars, only if it fails, and ends then."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = create_clidriver().main(list(arguments))
    if code:
        lines = [line.rsplit("\r", 1)[-1] for line in said.getvalue().splitlines()]
        fail("\n".join([f"aws {arguments[0]} {arguments[1]} failed", *filter(None, lines)]))


def failed_resources(cloudformation, stack_name: str) -> str:
    """Says which resources failed and why."""
    try:
        events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    except Exception as error:  # the deployment failed before there was a stack
        return str(error)
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
    ]
    return "\n".join(reasons) or "no resource says why"


def path_form(endpoint: str, function_url: str) -> str:
    """The URL under which the stand-in serves a function URL without a host name that would have to resolve."""
    identifier = urllib.parse.urlsplit(function_url).hostname.split(".")[0]
    return f"{endpoint}/_aws/lambda-url/{identifier}"


def cover_gaps(session, template: dict, names: dict) -> None:
    """Does by API what ministack 1.5.33 leaves out of a template. Values are the template's own."""
    for logical, resource in template["Resources"].items():
        kind, properties = resource["Type"], resource.get("Properties", {})
        name = names.get(logical)
        if kind == "AWS::DynamoDB::Table" and "TimeToLiveSpecification" in properties:
            session.create_client("dynamodb").update_time_to_live(
                TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"]
            )
        if kind == "AWS::S3::Bucket" and "LifecycleConfiguration" in properties:
            rules = []
            for rule in properties["LifecycleConfiguration"]["Rules"]:
                # CloudFormation says Id where the API says ID, and lets the filter away.
                rule = {**rule, "ID": rule["Id"], "Filter": {"Prefix": rule.get("Prefix", "")}}
                rules.append({key: value for key, value in rule.items() if key not in ("Id", "Prefix")})
            session.create_client("s3").put_bucket_lifecycle_configuration(
                Bucket=name, LifecycleConfiguration={"Rules": rules}
            )
        if kind == "AWS::S3::BucketPolicy":
            # It refuses plain http, which is all the stand-in speaks, and would be obeyed where permissions are enforced.
            session.create_client("s3").delete_bucket_policy(Bucket=names[properties["Bucket"]["Ref"]])
        if kind == "AWS::Serverless::Function" and "EventInvokeConfig" in properties:
            session.create_client("lambda").put_function_event_invoke_config(
                FunctionName=name, **properties["EventInvokeConfig"]
            )


def allow_batches(session, roles: list) -> None:
    """ministack wants a permission sqs:SendMessageBatch, which AWS does not know: there sqs:SendMessage is for both."""
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
    """ministack keeps a maximum concurrency that came from a parameter as text and then fails at every poll of the queue."""
    client = session.create_client("lambda")
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        concurrency = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
        if concurrency is not None and mapping["FunctionArn"].split(":function:")[1].split(":")[0] in function_names:
            client.update_event_source_mapping(
                UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": int(concurrency)}
            )


def main() -> None:
    request = json.load(sys.stdin)
    endpoint, stack_name = request["endpoint"], request["stack_name"]
    session = botocore.session.get_session()
    cloudformation = session.create_client("cloudformation")

    bucket = "reelhook-local-artifacts"
    session.create_client("s3").create_bucket(Bucket=bucket)

    # Unoptimised executables are 50 MB each. Compressing four of them takes 12 seconds, and they go no further than this
    # machine.
    zipfile.ZipFile = functools.partial(zipfile.ZipFile, compresslevel=0)

    packaged = os.path.join(os.path.dirname(request["template"]), f"packaged-{stack_name}.yaml")
    package = ["cloudformation", "package", "--template-file", request["template"], "--s3-bucket", bucket]
    aws(*package, "--output-template-file", packaged)

    parameters = [f"{name}={value}" for name, value in request["parameters"].items()]
    deploy = ["cloudformation", "deploy", "--template-file", packaged, "--stack-name", stack_name]
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
    functions = {
        logical.removesuffix("Function").lower(): names[logical]
        for logical, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    make_concurrency_a_number(session, set(functions.values()))
    allow_batches(
        session,
        [names[logical] for logical, resource in template["Resources"].items() if resource["Type"] == "AWS::IAM::Role"],
    )
    cover_gaps(session, template, names)

    stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    for key in ("CallbackUrl", "TasksUrl"):
        outputs[key] = path_form(endpoint, outputs[key])

    # Providers cannot reach the function URL of the stack's own environment variable, which names a host of AWS.
    settings = request["settings"]
    settings.setdefault("callback", {}).setdefault("base_url", outputs["CallbackUrl"])
    session.create_client("ssm").put_parameter(
        Name=request["parameters"]["SettingsParameter"],
        Value=json.dumps(settings),
        Type="SecureString",
        Tier="Intelligent-Tiering",
        Overwrite=True,
    )
    json.dump({"outputs": outputs, "functions": functions}, sys.stdout)


if __name__ == "__main__":
    main()
