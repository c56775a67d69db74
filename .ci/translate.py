"""Prints a SAM template as the CloudFormation template that AWS makes of it. Lints see more there: what a SAM event becomes."""

import json
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

with open(sys.argv[1], encoding="utf-8") as file:
    template = yaml_parse(file.read())
# Where `sam deploy` puts the archives.
for resource in template["Resources"].values():
    if resource["Type"] == "AWS::Serverless::Function":
        resource["Properties"]["CodeUri"] = "s3://bucket/archive.zip"


class NoPolicies:
    """The template names no managed policy."""

    def load(self):
        return {}


json.dump(transform(template, {}, NoPolicies()), sys.stdout, indent=2)
