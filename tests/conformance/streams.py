"""The golden streams: what is in them, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from syntax_streams import LPS, MPS, QNT, TPL, after, opened, parameter_set, start

import nnc_codec
from nnc_codec import EncodeParams, TensorParams, UpdateState, _native
from nnc_codec.params import Block
from nnc_codec.syntax import (
    LayerParameterSet,
    LayerParameterSetUnitHeader,
    QuantizationUnitHeader,
    QuantizationUnitPayload,
    TopologyElementsIdsList,
    TopologyUnitHeader,
    TopologyUnitPayload,
    UnitHeader,
    write_unit,
)
from nnc_codec.syntax.maps import PruningEntry, PruningPerformanceMap

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Golden:
    """One stream.

    Attributes:
        name: of the file.
        what: a remark.
        build: makes the bytes.
        features: what only the payload knows.
        encoded: made by the public encoder alone; otherwise units are written through the syntax layer.
        after: name of the stream whose state this one continues.
    """

    name: str
    what: str
    build: Callable[[], bytes]
    features: tuple[str, ...] = ()
    encoded: bool = True
    after: str | None = None


def weights(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Gaussian numbers by the sum of twelve uniform ones: the same with every version of numpy."""
    state = np.uint64(88172645463325252 + 7919 * seed)
    out = np.empty(int(np.prod(shape)), np.float64)
    with np.errstate(over="ignore"):
        for index in range(out.size):
            total = 0.0
            for _ in range(12):
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                total += float(state >> np.uint64(40)) / 2**24
            out[index] = total - 6.0
    return (out * scale).astype(np.float32).reshape(shape)


def half_of_the_rows(*shape: int) -> np.ndarray:
    array = weights(*shape, seed=5)
    array[::2] = 0
    return array


def layer(*, norm: bool = False, scaling: bool = False, bias: bool = True) -> tuple[Arrays, Block]:
    tensors = {"w": weights(12, 5, 2)}
    names: dict[str, str] = {}
    if scaling:
        tensors["s"], names["local_scaling"] = np.abs(weights(12, seed=1)) + 1, "s"
    if norm:
        for number, role in enumerate(("bn_beta", "bn_gamma", "bn_mean", "bn_var")):
            tensors[role], names[role] = np.abs(weights(12, seed=2 + number)) + 1, role
    if bias:
        tensors["b"], names["bias"] = weights(12, seed=9), "b"
    return tensors, Block(weight="w", **names)


def plain(array: np.ndarray | Arrays, **options: object) -> Callable[[], bytes]:
    tensors = array if isinstance(array, dict) else {"w": array}
    return lambda: nnc_codec.encode(tensors, EncodeParams(**({"qp": -12} | options)))


def block(factor: int = 0, **options: object) -> Callable[[], bytes]:
    tensors, members = layer(norm=bool(factor & 1), scaling=bool(factor & 2), bias=bool(factor & 4))
    return plain(tensors, blocks=(members,), **options)


def decomposed(**options: object) -> Callable[[], bytes]:
    tensors = {"u": weights(20, 3), "v": weights(3, 18, seed=1), "b": weights(20, seed=2)}
    return plain(tensors, blocks=(Block(weight="w", g="u", h="v", bias="b"),), **options)


def update(step: int, **options: object) -> bytes:
    """The `step`-th of three updates of the same positions; the second one leaves a tensor out."""
    state = UpdateState(history=True, temporal_context=True)
    data = b""
    for number in range(step + 1):
        changed = weights(16, 12, seed=20 + number) * (np.abs(weights(16, 12, seed=30)) > 0.9)
        bias = weights(16, seed=40 + number) * (number != 1)
        tensors = {"w": changed.astype(np.float32), "b": bias.astype(np.float32)}
        data = nnc_codec.encode(tensors, EncodeParams(**({"qp": -8, "nonweight_qp": -8} | options)), base=state)
    return data


def behind_parameters(unit: Callable[[bytes], bytes], **options: object) -> Callable[[], bytes]:
    """A unit between the parameter set and the data."""

    def build() -> bytes:
        data = nnc_codec.encode({"w": weights(4, 5)}, EncodeParams(qp=-12, topology=False, **options))
        end = nnc_codec.open(data).units[1].end
        return data[:end] + unit(data[:end]) + data[end:]

    return build


def topology(storage_format: int, text: bytes) -> Callable[[bytes], bytes]:
    header = UnitHeader(
        nnr_unit_type=TPL,
        topology_unit_header=TopologyUnitHeader(topology_storage_format=storage_format, topology_compression_format=0),
    )
    return lambda front: write_unit(header, TopologyUnitPayload(topology_data=text), after(front))


def layer_parameters(front: bytes) -> bytes:
    header = UnitHeader(
        nnr_unit_type=LPS,
        layer_parameter_set_unit_header=LayerParameterSetUnitHeader(lps_self_contained_flag=1),
    )
    values = LayerParameterSet(
        lps_sparsification_flag=0,
        lps_pruning_flag=0,
        lps_unification_flag=0,
        lps_quantization_method_flags=1,
        lps_qp_density=2,
        lps_quantization_parameter=-6,
    )
    return write_unit(header, values, after(front))


def quantization(front: bytes) -> bytes:
    header = QuantizationUnitHeader(quantization_storage_format=1, quantization_compression_format=0)
    unit = UnitHeader(nnr_unit_type=QNT, quantization_unit_header=header)
    return write_unit(unit, QuantizationUnitPayload(quantization_data=b'"w": linear_quantize();'), after(front))


def reserved(front: bytes) -> bytes:
    return b"\0\x07" + bytes([40 << 2 | 2]) + b"any."


def by_index() -> bytes:
    front = opened(mps_topology_indexed_reference_flag=1)
    names = TopologyElementsIdsList(count_topology_elements_minus2=1, topology_elem_id_list=("a", "b", "c"))
    header = TopologyUnitHeader(topology_storage_format=6, topology_compression_format=0)
    front += write_unit(
        UnitHeader(nnr_unit_type=TPL, topology_unit_header=header),
        TopologyUnitPayload(topology_elements_ids_list=names),
        after(front),
    )
    return front + moved(front, topology_elem_id=None, topology_elem_id_index=1)


def moved(front: bytes, strict: bool = True, payload: Callable[[bytes], bytes] = bytes, **changes: object) -> bytes:
    """A data unit with other header elements behind another beginning."""
    data = nnc_codec.encode({"w": weights(4, 5)}, EncodeParams(qp=-12, method="uniform", node_id=False))
    unit = nnc_codec.open(data).units[-1]
    header = unit.data_unit
    assert header is not None
    changed = unit.header.replace(compressed_data_unit_header=header.replace(**changes))
    return write_unit(changed, payload(data[unit.payload_offset :]), after(front, strict=strict))


def with_parameters(**values: object) -> Callable[[], bytes]:
    def build() -> bytes:
        front = opened(**values)
        return front + moved(front)

    return build


def edition_1(esc_indices: int) -> bytes:
    """A unit without the tools of edition 2, in either reading of the number of ESC indices."""
    encoder = _native.PayloadEncoder()
    encoder.write_qp(-12, 8)
    integers = np.round(weights(6, 7, seed=3) * 8).astype(np.int32)
    coding = _native.TensorCoding(rows=6, cols=7, edition2=False, unary_length=11, esc_indices=esc_indices)
    encoder.write_tensor(coding, integers.reshape(-1))
    front = start(0)
    front += write_unit(UnitHeader(nnr_unit_type=MPS), parameter_set(0), after(front))
    header = nnc_codec.open(
        nnc_codec.encode({"w": weights(6, 7)}, EncodeParams(method="uniform", node_id=False))
    ).units[-1]
    return front + write_unit(header.header, encoder.finish(), after(front))


def long_form() -> bytes:
    data = nnc_codec.encode({"w": weights(4, 5)}, EncodeParams(qp=-12, topology=False))
    bitstream = nnc_codec.open(data)
    unit = bitstream.units[-1]
    front = data[: unit.offset]
    return front + write_unit(unit.header, data[unit.payload_offset :], after(front), long_form=True)


PRUNING = PruningPerformanceMap(
    ppm_count_pruning_ratios=2,
    entries=(
        PruningEntry(
            pruning_ratio=0.5,
            ppm_nn_accuracy=0.75,
            ppm_count_classes=2,
            ppm_class_bitmask=3,
            ppm_nn_class_accuracy=(0.5, 1.0),
        ),
    ),
)

MATRIX = weights(20, 15)

STREAMS = [
    Golden("dq", "trellis", plain(MATRIX), ("parameter sets",)),
    Golden("uniform", "", plain(MATRIX, method="uniform"), ("parameter sets",)),
    Golden("no-parameter-sets", "", plain(MATRIX, param_opt=False)),
    Golden("codebook", "", plain(np.round(MATRIX), method="codebook")),
    Golden("codebook-one-entry", "", plain(np.full((9, 4), 0.75, np.float32), method="codebook")),
    Golden("codebook-positive", "zero entry at the left end", plain(np.abs(np.round(MATRIX)), method="codebook")),
    Golden("raw", "", plain(MATRIX, method="raw")),
    Golden("density-0", "", plain(MATRIX, qp=-3, qp_density=0)),
    Golden("density-7", "", plain(MATRIX, qp=-400, qp_density=7)),
    Golden("unary-1", "", plain(MATRIX, cabac_unary_length=1)),
    Golden("unary-256", "", plain(MATRIX * 100, cabac_unary_length=256)),
    Golden(
        "rows",
        "every other row is zero",
        plain(half_of_the_rows(20, 15), row_skipping=True),
        ("row skipping",),
    ),
    *(
        Golden(f"scan-{n}", "", plain(weights(3 + (4 << n), 9), scan_order=n), ("parameter sets",))
        for n in (1, 2, 3, 4)
    ),
    Golden("scan-1-columns", "several blocks a row", plain(weights(17, 21), scan_order=1, method="uniform")),
    Golden("scan-1-rows", "", plain(half_of_the_rows(20, 16), scan_order=1, row_skipping=True), ("row skipping",)),
    Golden("zero", "", plain(np.zeros((9, 14), np.float32)), ("all-zero tensor",)),
    Golden("shapes", "one to six dimensions", plain({f"t{n}": weights(*[2] * n) for n in range(1, 7)})),
    Golden(
        "integers",
        "",
        plain(np.array([[0, 1, -1], [2**31 - 1, -(2**31) + 1, 5]], np.int32)),
        ("full int32 range",),
    ),
    Golden(
        "formats",
        "element types other than float32 and int32",
        plain(
            {t: weights(3, 4).astype(t) for t in ("float16", "float64")}
            | {t: np.arange(-3, 3).astype(t) for t in ("int8", "int16", "int64")}
        ),
    ),
    Golden("bit-depth", "", plain(MATRIX, bit_depth=4, method="uniform"), ("bit depth",)),
    Golden("bit-depth-dq", "", plain(MATRIX, bit_depth=6), ("bit depth",)),
    Golden("opt-qp", "", plain({"a": MATRIX, "b": weights(5, 6), "c": weights(4)}, opt_qp=True), ("opt_qp",)),
    Golden("block-bias", "", block(4)),
    Golden("block-scaling", "", block(2)),
    Golden("block-norm", "", block(1)),
    Golden("block-all", "", block(7)),
    Golden("block-scan", "", block(7, scan_order=1, method="uniform")),
    Golden("block-folded", "", block(7, fold_batch_norm=True), ("folded batch normalization",)),
    Golden("block-codebook", "", block(6, per_tensor={"w": TensorParams(method="codebook")}, method="uniform")),
    Golden("block-separate", "", block(6, per_tensor={"b": TensorParams(method="uniform")})),
    Golden("decomposed", "", decomposed()),
    Golden("decomposed-scan", "", decomposed(scan_order=1)),
    Golden(
        "decomposed-codebook",
        "",
        decomposed(method="codebook", per_tensor={"b": TensorParams(method="uniform")}),
    ),
    Golden("update-0", "first of three updates", lambda: update(0)),
    Golden(
        "update-1",
        "",
        lambda: update(1),
        ("left-out zero updates", "history-dependent significance"),
        after="update-0",
    ),
    Golden("update-2", "", lambda: update(2), ("history-dependent significance",), after="update-1"),
    Golden("no-node-id", "", plain(MATRIX, node_id=False)),
    Golden("empty", "no data unit", plain({})),
    Golden("edition-1", "31 ESC indices", lambda: edition_1(31), encoded=False),
    Golden(
        "edition-1-nncodec-0",
        "32 ESC indices",
        lambda: edition_1(32),
        ("edition 1, NNCodec 0.x",),
        encoded=False,
    ),
    Golden("long-unit-size", "of a short unit", long_form, encoded=False),
    Golden("layer-parameter-set", "", behind_parameters(layer_parameters), encoded=False),
    Golden("topology-nnef", "", behind_parameters(topology(1, b"version 1.0;")), encoded=False),
    Golden("topology-onnx", "", behind_parameters(topology(2, b"\x08\x08\x12\x04test")), encoded=False),
    Golden("topology-text", "unrecognized format", behind_parameters(topology(0, b"text\0")), encoded=False),
    Golden("by-index", "", by_index, encoded=False),
    Golden("quantization-unit", "", behind_parameters(quantization), encoded=False),
    Golden("reserved-unit", "type 40", behind_parameters(reserved), encoded=False),
    Golden("base-qp", "", with_parameters(mps_quantization_parameter=-9), encoded=False),
    Golden(
        "pre-flag",
        "predictive residual coding announced",
        with_parameters(mps_parent_signalling_enabled_flag=1, nnr_pre_flag=1),
        encoded=False,
    ),
    Golden(
        "performance-map",
        "",
        with_parameters(mps_pruning_flag=1, pruning_performance_map=PRUNING),
        encoded=False,
    ),
    Golden(
        "base-model",
        "",
        with_parameters(
            base_model_id_present_flag=1,
            validation_set_performance_present_flag=1,
            base_model_id="model",
            performance_metric_type="top1",
            validation_set_performance=0.75,
        ),
        encoded=False,
    ),
]


@dataclass(frozen=True)
class Damage:
    """A stream that must be refused.

    Attributes:
        name: of the file.
        what: a remark.
        error: code of the error a decoder must raise.
        build: makes the bytes.
    """

    name: str
    what: str
    error: str
    build: Callable[[], bytes] = field(repr=False)


def changed(at: int, value: int, array: np.ndarray = MATRIX, **options: object) -> Callable[[], bytes]:
    def build() -> bytes:
        data = bytearray(plain(array, topology=False, **options)())
        data[at] = value
        return bytes(data)

    return build


def lenient(front: Callable[[], bytes] = opened, **changes: object) -> Callable[[], bytes]:
    def build() -> bytes:
        begin = front()
        return begin + moved(begin, strict=False, **changes)

    return build


def shorter(count: int) -> Callable[[], bytes]:
    def build() -> bytes:
        begin = opened()
        return begin + moved(begin, payload=lambda data: data[:-count])

    return build


def without_steps() -> bytes:
    parameters = {
        "mps_quantization_method_flags": 0,
        "mps_qp_density": None,
        "mps_quantization_parameter": None,
    }
    return opened(**parameters) + moved(opened())


def twice() -> bytes:
    begin = opened()
    return begin + 2 * moved(begin)


CORRUPT, TRUNCATED, UNSUPPORTED, LIMIT = "NNC-E101", "NNC-E102", "NNC-E103", "NNC-E105"

ERRORS = [
    Damage("empty-file", "", CORRUPT, bytes),
    Damage("cut-unit", "the last unit ends early", TRUNCATED, lambda: plain(MATRIX)()[:-5]),
    Damage("cut-payload", "a payload too short for its tensor", TRUNCATED, shorter(12)),
    Damage("cut-stop-bit", "the last byte of a payload is missing", TRUNCATED, shorter(1)),
    Damage(
        "trailing-byte",
        "a byte behind the codeword",
        CORRUPT,
        lambda: opened() + moved(opened(), payload=lambda d: d + b"\0"),
    ),
    Damage("trailing-unit", "two bytes behind the last unit", CORRUPT, lambda: plain(MATRIX)() + b"\0\2"),
    Damage("profile-2", "general_profile_idc = 2", UNSUPPORTED, changed(3, 2)),
    Damage("no-start", "", CORRUPT, lambda: plain(MATRIX)()[4:]),
    Damage("second-start", "", CORRUPT, lambda: plain(MATRIX)() + start()),
    Damage("no-parameters", "a data unit before the parameter set", CORRUPT, lambda: start() + moved(opened())),
    Damage("name-twice", "", CORRUPT, twice),
    Damage("payload-type-9", "reserved payload type", UNSUPPORTED, changed(15, 9 << 3 | 1)),
    Damage("no-step", "quantized data, no QP in the parameter set", CORRUPT, without_steps),
    Damage("temporal-without-past", "", UNSUPPORTED, lambda: update(1)),
    Damage(
        "dimension-shift",
        "first_tensor_dimension_shift = 1",
        UNSUPPORTED,
        lenient(first_tensor_dimension_shift=1),
    ),
    Damage(
        "hash-parent",
        "parent named by SHA-256",
        UNSUPPORTED,
        lenient(
            lambda: opened(mps_parent_signalling_enabled_flag=1),
            parent_node_id_present_flag=1,
            parent_node_id_type=1,
            parent_node_payload_sha256=bytes(32),
        ),
    ),
    Damage(
        "bomb",
        "two raised to 40 elements in a hundred bytes",
        LIMIT,
        lambda: opened() + bomb(),
    ),
    Damage("noise", "", TRUNCATED, lambda: bytes(range(200, 256))),
]


def bomb() -> bytes:
    data = bytearray(moved(opened()))
    wide = after(opened(), max_elements=2**62)
    unit = nnc_codec.open(opened() + bytes(data)).units[-1]
    header = unit.data_unit
    assert header is not None
    huge = header.replace(tensor_dimensions=(2**20, 2**20))
    return write_unit(unit.header.replace(compressed_data_unit_header=huge), b"\x80\0", wide)
