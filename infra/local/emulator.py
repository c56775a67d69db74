"""Runs ministack, and kills it when its parent exits.

`local` starts this as the leader of its own process group and keeps the write end of standard input open. When that end
closes, however `local` exits, the whole group is killed: ministack and the function processes it started.
"""

import os
import signal
import socketserver
import sys
import threading


def exit_with_parent() -> None:
    """Waits until standard input closes, then kills the process group."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


class PartChecksum(str):
    """The CRC-64/NVME of a part, with the length of the part."""

    length: int


def use_full_object_checksums() -> None:
    """Makes S3 compute CRC64NVME as AWS does: over the full object, multipart uploads included.

    ministack 1.5.33 computes a composite checksum, which AWS has for other algorithms only, and so rejects every correct
    one. It also computes it in Python, at 5 MB/s, and blocks everything else meanwhile.
    """
    import base64

    from awscrt.checksums import combine_crc64nvme, crc64nvme
    from ministack.services import s3

    s3._crc64nvme = crc64nvme
    resolve, combine = s3._resolve_object_checksums, s3._composite_checksum

    def resolve_with_length(body, headers):
        checksums, error = resolve(body, headers)
        if value := checksums.get("CRC64NVME"):
            checksums["CRC64NVME"] = PartChecksum(value)
            checksums["CRC64NVME"].length = len(body)
        return checksums, error

    def combine_full_object(algorithm, part_checksums):
        if algorithm != "CRC64NVME" or not all(isinstance(part, PartChecksum) for part in part_checksums):
            return combine(algorithm, part_checksums)
        whole = 0
        for part in part_checksums:
            whole = combine_crc64nvme(whole, int.from_bytes(base64.b64decode(part), "big"), part.length)
        return base64.b64encode(whole.to_bytes(8, "big")).decode()

    s3._resolve_object_checksums, s3._composite_checksum = resolve_with_length, combine_full_object


def add_redrive() -> None:
    """Adds `StartMessageMoveTask` without its options, which ministack 1.5.33 does not have."""
    import json
    import time

    from ministack.services import sqs

    def start_message_move_task(data: dict, _url: str) -> dict:
        source = sqs._queue_by_arn(data["SourceArn"])
        for _, target in sqs._queues.all_items():
            policy = json.loads(target["attributes"].get("RedrivePolicy", "{}"))
            if source and policy.get("deadLetterTargetArn") == data["SourceArn"]:
                for message in source["messages"]:
                    target["messages"].append({**message, "receive_count": 0, "visible_at": time.time()})
                source["messages"].clear()
        return {"TaskHandle": "moved"}

    sqs._HANDLERS["StartMessageMoveTask"] = start_message_move_task


def add_api_destinations() -> None:
    """Lets CloudFormation create the connections and destinations of EventBridge, which ministack 1.5.33 has by API only."""
    import json

    from ministack.services import eventbridge
    from ministack.services.cloudformation import provisioners

    def handlers(call, delete, arn: str) -> dict:
        def create(logical_id: str, properties: dict, stack_name: str) -> tuple:
            name = f"{stack_name}-{logical_id}"
            status, _, body = call({**properties, "Name": name})
            if status >= 400:
                raise ValueError(body)
            return name, {"Arn": json.loads(body)[arn]}

        return {"create": create, "delete": lambda name, _properties: delete({"Name": name})}

    provisioners._RESOURCE_HANDLERS["AWS::Events::Connection"] = handlers(
        eventbridge._create_connection, eventbridge._delete_connection, "ConnectionArn"
    )
    provisioners._RESOURCE_HANDLERS["AWS::Events::ApiDestination"] = handlers(
        eventbridge._create_api_destination, eventbridge._delete_api_destination, "ApiDestinationArn"
    )


def note_permissions() -> None:
    """Notes in `permissions.jsonl` of the run directory which role was allowed which action, each pair once."""
    import json

    from ministack.core import iam_evaluator

    evaluate, noted = iam_evaluator.evaluate, set()

    def evaluate_and_note(context, policies, *limits):
        result = evaluate(context, policies, *limits)
        pair = (context.principal_arn, context.action)
        if result.decision == "Allow" and pair not in noted:
            noted.add(pair)
            with open("permissions.jsonl", "a", encoding="utf-8") as file:
                print(json.dumps(pair), file=file)
        return result

    iam_evaluator.evaluate = evaluate_and_note


def main() -> None:
    if os.getpgrp() != os.getpid():
        sys.exit("emulator.py must lead its own process group: start it with `cargo run`, not by hand")
    threading.Thread(target=exit_with_parent, daemon=True).start()

    # The Lambda runtime API writes headers and event separately. With Nagle's algorithm the event waits for the delayed
    # ACK of the headers: 40 ms on every invocation.
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True

    use_full_object_checksums()
    add_redrive()
    add_api_destinations()
    note_permissions()

    from ministack.app import main as serve

    sys.argv = ["ministack"]
    serve()


if __name__ == "__main__":
    main()
