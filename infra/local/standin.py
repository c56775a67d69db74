"""Runs ministack, and ends it together with the program that started it.

`local` starts this as the leader of a process group of its own and keeps the other end of standard input open. When that
end closes, however `local` came to its end, the whole group is killed: ministack and the function processes it started.
"""

import os
import signal
import socketserver
import sys
import threading


def end_with_starter() -> None:
    """Waits until standard input closes, then kills the process group."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


class PartChecksum(str):
    """The CRC-64/NVME of a part, which knows how long the part is."""

    length: int


def give_whole_checksums() -> None:
    """Has S3 treat CRC64NVME as AWS does: over the whole object, also of a multipart upload.

    ministack 1.5.33 makes a checksum of the parts' checksums, which AWS knows for other algorithms only, and so refuses
    every right one. It also computes it in Python, at 5 MB a second and with everything else waiting.
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

    def combine_whole(algorithm, part_checksums):
        if algorithm != "CRC64NVME" or not all(isinstance(part, PartChecksum) for part in part_checksums):
            return combine(algorithm, part_checksums)
        whole = 0
        for part in part_checksums:
            whole = combine_crc64nvme(whole, int.from_bytes(base64.b64decode(part), "big"), part.length)
        return base64.b64encode(whole.to_bytes(8, "big")).decode()

    s3._resolve_object_checksums, s3._composite_checksum = resolve_with_length, combine_whole


def main() -> None:
    if os.getpgrp() != os.getpid():
        sys.exit("standin.py has to lead its process group: it is started by `cargo run`, not by hand")
    threading.Thread(target=end_with_starter, daemon=True).start()

    # The Lambda runtime API writes headers and event separately. With Nagle's algorithm the event waits for the
    # acknowledgement of the headers, which the function's kernel delays: 40 ms on every invocation.
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True

    give_whole_checksums()

    from ministack.app import main as serve

    sys.argv = ["ministack"]
    serve()


if __name__ == "__main__":
    main()
