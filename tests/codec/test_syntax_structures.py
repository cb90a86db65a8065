"""Every syntax structure: values survive bytes, the size is known beforehand, the trace covers every bit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import structures

from nnc_codec.errors import InvalidArgumentError, UnsupportedError
from nnc_codec.syntax import codec, data_unit, maps, parameter_sets, topology, units
from nnc_codec.syntax.bit_reader import BitReader
from nnc_codec.syntax.context import Context, OutOfBand
from nnc_codec.syntax.fields import Structure, structure, u
from nnc_codec.syntax.trace import TraceEntry, TracingReader

MODULES = (maps, parameter_sets, topology, data_unit, units)
EVERY_STRUCTURE = sorted(
    {
        cls
        for module in MODULES
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Structure) and cls is not Structure
    },
    key=lambda cls: cls.__name__,
)
PARAMETERS = {
    "indexed": st.integers(0, 1),
    "topology_storage_format": st.integers(0, 9),
    "count_tensors": st.integers(2, 5),
    "dq_flag": st.integers(0, 1),
    "index": st.integers(0, 2),
    "count": st.integers(0, 5),
}
BASE = OutOfBand(known=True, tensor_dimensions=(6, 4), cabac_unary_length_minus1=3)


class _AnyBase(dict[str, OutOfBand]):
    """Knows every tensor, whatever its name."""

    def get(self, key: str, default: OutOfBand = BASE) -> OutOfBand:  # type: ignore[override]
        return BASE


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    flags = st.integers(0, 1)
    references = draw(st.integers(1, 400))
    return Context(
        strict=False,
        start_units=1,
        model_parameter_sets=1,
        general_profile_idc=draw(flags),
        mps_topology_indexed_reference_flag=draw(flags),
        mps_parent_signalling_enabled_flag=draw(flags),
        mps_unification_flag=draw(flags),
        mps_quantization_method_flags=draw(st.sampled_from((0, 1, 1, 3))),
        reference_list=tuple(map(str, range(references))),
        reference_count=references,
        base=_AnyBase({"x": BASE}) if draw(st.booleans()) else {},
    )


@pytest.mark.parametrize("cls", EVERY_STRUCTURE, ids=lambda cls: cls.__name__)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_survive_bytes(cls: type[Structure], data: st.DataObject) -> None:
    context = data.draw(contexts())
    given_parameters = {name: data.draw(PARAMETERS[name]) for name in cls.parameters}
    if cls is units.UnitHeader:
        first = data.draw(st.booleans())
        context = Context(strict=False) if first else context
    value = data.draw(structures(cls, context, **given_parameters))
    arguments = tuple(given_parameters.values())

    written = codec.write(value, context, *arguments)
    bits = codec.size_in_bits(value, context, *arguments)
    assert len(written) == (bits + 7) // 8

    read = codec.read(cls, written, context, *arguments)
    assert read == value
    assert hash(read) == hash(value)
    assert codec.write(read, context, *arguments) == written

    entries: list[TraceEntry] = []
    tracing = TracingReader(written, 0, len(written), unit=0, entries=entries)
    assert codec.tracer(cls)(tracing, context, *arguments) == value
    assert tracing.position == bits
    position = 0
    for entry in entries:
        assert entry.bit_offset == position
        assert entry.width > 0 or entry.value == b""
        position += entry.width
    assert position == bits
    assert len({entry.path for entry in entries}) == len(entries)


@pytest.mark.parametrize("cls", EVERY_STRUCTURE, ids=lambda cls: cls.__name__)
def test_every_structure_says_what_it_is(cls: type[Structure]) -> None:
    assert cls.__doc__
    assert cls.elements


def test_a_structure_is_a_frozen_value() -> None:
    size = units.UnitSize(nnr_unit_size_flag=0, nnr_unit_size=9)
    with pytest.raises(AttributeError):
        size.nnr_unit_size = 10  # type: ignore[misc]
    assert size.replace(nnr_unit_size=10).nnr_unit_size == 10
    assert size == units.UnitSize(nnr_unit_size_flag=0, nnr_unit_size=9)
    assert repr(size) == "UnitSize(nnr_unit_size_flag=0, nnr_unit_size=9)"
    assert size.to_dict() == {"nnr_unit_size_flag": 0, "nnr_unit_size": 9}


def test_unknown_and_missing_elements_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="needs nnr_unit_size"):
        units.UnitSize(nnr_unit_size_flag=0)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="has no element size"):
        units.UnitSize(nnr_unit_size_flag=0, nnr_unit_size=3, size=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nnr_unit_size": None}, "nnr_unit_size: is missing"),
        ({"nnr_unit_size": 2.5}, "is not an integer"),
        ({"nnr_unit_size": 1 << 15}, "does not fit 15 bits"),
        ({"nnr_unit_size": 2}, "outside 3"),
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    size = units.UnitSize(nnr_unit_size_flag=0, nnr_unit_size=9).replace(**change)
    with pytest.raises(InvalidArgumentError, match=message):
        codec.write(size, Context())


def test_a_value_for_an_absent_element_is_refused() -> None:
    header = units.UnitHeader(nnr_unit_type=0, partial_data_counter=3,
                              start_unit_header=units.StartUnitHeader(general_profile_idc=1))  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="partial_data_counter: has a value"):
        codec.write(header, Context())


def test_an_array_must_be_as_long_as_announced() -> None:
    entry = maps.PruningEntry(
        pruning_ratio=0.5,
        ppm_nn_accuracy=0.75,
        ppm_count_classes=2,
        ppm_class_bitmask=3,
        ppm_nn_class_accuracy=(0.5,),
    )
    with pytest.raises(InvalidArgumentError, match="1 entries where 2 are announced"):
        codec.write(entry, Context())


def test_unconfirmed_syntax_is_refused_unless_asked_for() -> None:
    container = topology.PruningTopologyContainer(
        nnr_rep_type=0,
        prune_flag=1,
        order_flag=0,
        sparse_flag=0,
        bitmask=topology.PruningBitmask(count_bits=3, bit_mask=b"\xa0"),
    )
    value = topology.TopologyUnitPayload(nnr_pruning_topology_container=container)
    lenient, strict = Context(strict=False), Context()
    written = codec.write(value, lenient, 5)
    assert codec.read(topology.TopologyUnitPayload, written, lenient, 5) == value
    message = r"nnr_pruning_topology_container: .* not confirmed"
    with pytest.raises(UnsupportedError, match=message):
        codec.read(topology.TopologyUnitPayload, written, strict, 5)
    with pytest.raises(UnsupportedError, match=message):
        codec.write(value, strict, 5)


def test_reserved_bits_are_kept_and_reported() -> None:
    header = parameter_sets.LayerParameterSetUnitHeader(lps_self_contained_flag=1, nnr_reserved_zero_7bits=5)
    bits = BitReader(b"\x85")
    assert codec.reader(parameter_sets.LayerParameterSetUnitHeader)(bits, Context()) == header
    assert bits.warnings == ["bit 1: nnr_reserved_zero_7bits: reserved bits are 5"]
    assert codec.write(header, Context()) == b"\x85"


def test_a_description_with_a_mistake_does_not_import() -> None:
    with pytest.raises(TypeError, match="unknown name"):

        @structure()
        class _Misspelt(Structure):
            first: int = u(1)
            second: int = u(1, when="frist", default=0)

    with pytest.raises(TypeError, match="need a default"):

        @structure()
        class _NoDefault(Structure):
            first: int = u(1)
            second: int = u(1, when="first")

    with pytest.raises(TypeError, match="nothing bounds the count"):

        @structure()
        class _Unbounded(Structure):
            first: int = u(8)
            second: tuple[int, ...] = u("first", count="first")

    with pytest.raises(TypeError, match="outside the expression language"):

        @structure()
        class _Comprehension(Structure):
            first: int = u("[x for x in 1]")
