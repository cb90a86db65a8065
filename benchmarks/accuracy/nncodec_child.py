"""Code and decode arrays with NNCodec: nncodec_child.py SOURCE.npz DECODED.npz; reads a qp per line.

For every qp DECODED.npz is written and one line of JSON printed: size of the bitstream, seconds by the clock and of the
processor for coding and for decoding.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from nncodec import nnc


def main() -> None:
    """Run."""
    source, decoded = sys.argv[1], sys.argv[2]
    with np.load(source) as arrays:
        tensors = {name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays.files}
    for line in sys.stdin:
        given = {name: array.copy() for name, array in tensors.items()}
        start = time.perf_counter(), time.process_time()
        bitstream = nnc.compress(given, qp=int(line), bitstream_path=None, return_bitstream=True)
        middle = time.perf_counter(), time.process_time()
        result = nnc.decompress(bytearray(bitstream))
        end = time.perf_counter(), time.process_time()
        np.savez(decoded, **{name: np.asarray(value) for name, value in result.items()})
        encode, decode = (middle[0] - start[0], middle[1] - start[1]), (end[0] - middle[0], end[1] - middle[1])
        print("\n" + json.dumps({"bytes": len(bitstream), "encode": encode, "decode": decode}), flush=True)


if __name__ == "__main__":
    main()
