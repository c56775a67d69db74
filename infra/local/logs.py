"""Prints the logs of a stack's functions, oldest first. Arguments: physical names of the functions."""

import sys

import botocore.session


def main() -> None:
    session = botocore.session.get_session()
    groups = {}
    functions = session.create_client("lambda")
    for name in sys.argv[1:]:
        logging = functions.get_function_configuration(FunctionName=name).get("LoggingConfig", {})
        groups[logging.get("LogGroup", f"/aws/lambda/{name}")] = name
    logs = session.create_client("logs")
    events = []
    for group in groups:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            events += [(event["timestamp"], group.rsplit("/", 1)[-1], event["message"]) for event in page["events"]]
    for _, group, message in sorted(events, key=lambda event: event[0]):
        print(f"{group}: {message.rstrip()}")


if __name__ == "__main__":
    main()
