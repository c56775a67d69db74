"""Prints what a stack is and who operates it: outputs, functions, region and credentials, as one JSON document.

The AWS CLI's libraries know every way in which people have credentials: profiles, SSO, assumed roles, the environment. Its
only argument is the stack's name; `AWS_ENDPOINT_URL` leads it to another AWS.
"""

import json
import os
import sys
import urllib.parse

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError


def path_form(endpoint: str, url: str) -> str:
    """The path-style URL of a Function URL or an API. Their host-style URLs need a resolver that knows `*.localhost`."""
    identifier, service = urllib.parse.urlsplit(url).hostname.split(".")[:2]
    if service == "execute-api":
        return f"{endpoint}/_aws/execute-api/{identifier}/$default"
    return f"{endpoint}/_aws/lambda-url/{identifier}"


def describe(session, stack_name: str) -> dict:
    """The outputs of a stack, and the physical names of its functions by their short names."""
    cloudformation = session.create_client("cloudformation")
    stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        for key in ("CallbackUrl", "TasksUrl"):
            if key in outputs:
                outputs[key] = path_form(endpoint, outputs[key])
    resources = cloudformation.describe_stack_resources(StackName=stack_name)["StackResources"]
    functions = {
        resource["LogicalResourceId"].removesuffix("Function").lower(): resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] in ("AWS::Lambda::Function", "AWS::Serverless::Function")
    }
    return {"outputs": outputs, "functions": functions}


def main() -> None:
    session = botocore.session.get_session()
    region = session.get_config_variable("region")
    credentials = session.get_credentials()
    if not region:
        sys.exit("no region is configured: set AWS_REGION, or run `aws configure`")
    if not credentials:
        sys.exit("no credentials are configured: set AWS_PROFILE, or run `aws configure`")
    try:
        frozen = credentials.get_frozen_credentials()
        stack = describe(session, sys.argv[1])
    except (BotoCoreError, ClientError) as error:
        sys.exit(str(error))
    identity = {"access_key": frozen.access_key, "secret_key": frozen.secret_key, "token": frozen.token}
    json.dump({**stack, "region": region, "credentials": identity}, sys.stdout)


if __name__ == "__main__":
    main()
