"""Code and decode arrays with NNCodec: nncodec_child.py SOURCE.npz DECODED.npz QP; prints the bitstream's size."""

from __future__ import annotations

import sys

import numpy as np
from nncodec import nnc


def main() -> None:
    """Run."""
    source, decoded, qp = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with np.load(source) as arrays:
        tensors = {name: np.ascontiguousarray(arrays[name], np.float32) for name in arrays.files}
    bitstream = nnc.compress(tensors, qp=qp, bitstream_path=None, return_bitstream=True)
    result = nnc.decompress(bytearray(bitstream))
    np.savez(decoded, **{name: np.asarray(value) for name, value in result.items()})
    print(len(bitstream))


if __name__ == "__main__":
    main()
